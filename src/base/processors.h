#pragma once

namespace flockfs {

// Whether the calling thread may run on more than one processor (sched_setaffinity(2), cpuset(7)). Where that is not to
// be had, yes.
[[nodiscard]] bool has_several_processors();

}  // namespace flockfs
