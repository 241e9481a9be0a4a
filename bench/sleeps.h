#pragma once

#include <sys/types.h>

#include <cstdint>

namespace flockfs::bench {

// How often threads of a process have gone to sleep by themselves; each time somebody has to wake them.
struct Sleeps {
  std::uint64_t workers = 0;  // flockfs's threads that read requests
  std::uint64_t others = 0;
};

// Of all threads of a process. Of process 0: none.
[[nodiscard]] Sleeps sleeps_of(pid_t process);

// A process's first thread, and whether it sleeps now.
struct Rest {
  bool asleep = false;
  std::uint64_t sleeps = 0;
};
[[nodiscard]] Rest rest_of(pid_t process);

}  // namespace flockfs::bench
