#pragma once

#include "mirror/fuse_api.h"

namespace flockfs {

struct Core;

// Answers the kernel's STATX, by which birth times are asked for: libfuse knows it since 3.18 only. False: the request
// is another one, or none that can be read, and for libfuse to deal with. Any thread.
[[nodiscard]] bool answer_statx(Core& core, const fuse_buf& request);

}  // namespace flockfs
