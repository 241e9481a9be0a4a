#pragma once

// libfuse's low-level interface, the same version everywhere.
#define FUSE_USE_VERSION 317
#include <fuse_lowlevel.h>
