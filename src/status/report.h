#pragma once

#include <sys/types.h>

#include <functional>
#include <string>

#include "mirror/mirror_state.h"

namespace flockfs {

// The status of a mirror as JSON (DESIGN section 2), one line of ASCII. `daemon`: the process that serves it.
// `command_of` gives a process's name, or nothing; it is asked once for each process.
[[nodiscard]] std::string status_report(const MirrorState& state, pid_t daemon,
                                        const std::function<std::string(pid_t)>& command_of);

}  // namespace flockfs
