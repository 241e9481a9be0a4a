#pragma once

#include <sys/types.h>

#include <vector>

namespace flockfs {

// The process and all that descend from it, as /proc shows them now.
[[nodiscard]] std::vector<pid_t> with_descendants(pid_t process);

}  // namespace flockfs
