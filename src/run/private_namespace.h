#pragma once

#include "base/result.h"

namespace flockfs {

// Puts this process into a mount namespace of its own, whose mounts nobody else sees and which ends with its last
// process. Who may not do that does it in a user namespace of its own, where they are who they were. An Error says what
// a person can do about it. REQUIRES: one thread only.
Status enter_private_namespace();

}  // namespace flockfs
