#pragma once

namespace flockfs {

// What flockfs(8) exits with; part of its interface.
enum ExitCode : int {
  kExitOk = 0,
  kExitFailure = 1,  // the mirror could not be mounted or served
  kExitUsage = 2,    // the command line is wrong; nothing was tried
};

}  // namespace flockfs
