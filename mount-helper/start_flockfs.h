#pragma once

#include <string>
#include <vector>

#include "base/result.h"
#include "base/unique_fd.h"
#include "helper_arguments.h"

namespace flockfs {

// flockfs(8), ready to be started: ../bin/flockfs as seen from this program, else the one in the directory that was
// configured. A descriptor, so that it is the one of this mount namespace wherever we go.
Result<UniqueFd> find_flockfs();

// Enters the mount namespace of the process with that id, or of that file. REQUIRES: one thread only.
Status enter_mount_namespace(const std::string& name);

// Starts flockfs with these arguments (its name first; no shell is involved), waits for it to end, and translates its
// exit status to mount(8)'s.
MountExit run_flockfs(const UniqueFd& flockfs, const std::vector<std::string>& arguments);

}  // namespace flockfs
