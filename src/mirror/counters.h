#pragma once

#include <atomic>
#include <cstdint>
#include <string_view>

#include "base/clock.h"
#include "base/log.h"
#include "mirror/request_counts.h"

namespace flockfs {

// What one mirror has decided so far (DESIGN 1.12). Thread-safe; each number is right, all together are not one moment.
// Atomics only, so that it may lie in memory that processes share.
struct Counters {
  std::atomic<std::uint64_t> opens{0};  // answered with an open file
  std::atomic<std::uint64_t> locked{0};
  std::atomic<std::uint64_t> passed{0};    // not selected by the filter
  std::atomic<std::uint64_t> unlocked{0};  // selected, but opened without a lock
  std::atomic<std::uint64_t> waited{0};    // had to wait, however that ended
  std::atomic<std::uint64_t> timeouts{0};
  std::atomic<std::uint64_t> interrupted{0};
  std::atomic<std::uint64_t> deadlocks{0};  // refused
  std::atomic<std::uint64_t> lapsed{0};     // locks of open files that were gone for a while
  std::atomic<std::uint64_t> refused{0};    // opens, creations and truncations that failed for want of a lock
  std::atomic<std::uint64_t> waited_ns{0};  // of all waits that have ended
  std::atomic<std::uint64_t> bytes{0};  // read and written by the daemon; what the kernel passes through is not seen
  RequestCounts requests;

  void wait_ended(Duration lasted) { waited_ns += static_cast<std::uint64_t>(lasted.count()); }

  // Calls visit(name, number) for each of the decisions.
  template <typename Visit>
  void for_each(Visit visit) const {
    visit("opens", opens.load());
    visit("locked", locked.load());
    visit("passed", passed.load());
    visit("unlocked", unlocked.load());
    visit("waited", waited.load());
    visit("timeouts", timeouts.load());
    visit("interrupted", interrupted.load());
    visit("deadlocks", deadlocks.load());
    visit("lapsed", lapsed.load());
    visit("refused", refused.load());
  }

  void add_to(LogLine& line) const {
    for_each(
        [&line](std::string_view key, std::uint64_t value) { line.number(key, static_cast<std::int64_t>(value)); });
  }
};

}  // namespace flockfs
