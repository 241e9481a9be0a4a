#pragma once

#include <string>
#include <vector>

#include "base/result.h"

namespace flockfs {

// Asks mirrors for their status. Waits some seconds at most, also for a mirror that hangs: no file of it is touched
// unless `target` names none of the mounts themselves.
//
// `target`: where a mirror is mounted, or any path in it; or, all digits, a process: then the mirrors that it or a
// descendant serves, and those that one of them sees in a mount namespace other than the caller's (flockfs-run). At
// least one report, each as status_report() made it; or why there is none, for a person to read.
[[nodiscard]] Result<std::vector<std::string>> ask_for_status(const std::string& target);

}  // namespace flockfs
