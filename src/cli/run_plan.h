#pragma once

#include "base/result.h"
#include "cli/command_line.h"
#include "run/runner.h"

namespace flockfs {

// What flockfs-run is to do, from its command line: SOURCEs canonical, those within others left to these; the paths of
// prefix and exclude given to the mirrors that they are in (a relative one is below each SOURCE). An Error's context is
// what to print. REQUIRES: the working directory is the caller's.
Result<RunPlan> make_run_plan(const CommandLine& command);

}  // namespace flockfs
