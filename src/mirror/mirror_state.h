#pragma once

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/clock.h"
#include "lock/lock_engine.h"
#include "lock/lock_mode.h"

namespace flockfs {

// What a mirror is doing, for its status. Plain data. Each part is right, all together are not one moment.

// An open file that holds a lock.
struct HeldState {
  std::string path;  // as the log names it
  bool deleted = false;
  LockMode mode = LockMode::kShared;
  std::string_view lock;  // as the option lock= names it, "flock+lockfile" for one that has its lock file as well
  pid_t process = 0;      // that opened it; 0: cannot be seen
  Duration held{};
  bool long_held = false;  // for longer than hold_warn
};

struct WaitingState {
  std::string path;  // somebody else's lock file, if that is what is waited for
  LockMode mode = LockMode::kShared;
  pid_t process = 0;
  Duration waited{};
  bool possible_deadlock = false;
  std::vector<Blocker> blocked_by;  // not all: LockSnapshot::kMostBlockers
};

struct MirrorState {
  static constexpr std::size_t kMostListed = 20'000;  // in each of the lists

  std::string source;
  std::string mountpoint;
  bool passthrough = false;
  Duration up{};
  Duration hold_warn{};
  std::vector<std::pair<std::string_view, std::uint64_t>> counters;
  Duration waited{};                                                 // by all waits that have ended
  std::vector<std::pair<std::string_view, std::uint64_t>> requests;  // by the kernel's names of them
  std::size_t all_held = 0;
  std::vector<HeldState> held;  // opened first, first
  std::size_t all_waiting = 0;
  std::vector<WaitingState> waiting;  // who has waited longest first
};

}  // namespace flockfs
