#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <optional>

#include "base/clock.h"

namespace flockfs {

// When to look again for a lock file that somebody else has: git's own times (lock_file_timeout() in its lockfile.c),
// so that neither side gets ahead of the other. The pauses are 1, 4, 9, 16 ... ms, at most a second, each shortened or
// lengthened by up to a quarter at random, which keeps two that wait for each other's lock files from meeting for ever.
// Pure; one for each wait, used by one thread at a time.
class LockFileBackoff {
 public:
  // The next pause. `random` is any number of a uniform distribution.
  [[nodiscard]] Duration next(std::uint32_t random) {
    const auto pause = std::chrono::microseconds(750 + random % 500) * multiplier_;
    multiplier_ += 2 * n_ + 1;  // (n + 1)^2 = n^2 + 2n + 1
    if (multiplier_ > kMostMultiplier) {
      multiplier_ = kMostMultiplier;
    } else {
      ++n_;
    }
    return pause;
  }

  // When to look after a look at `now` that found it taken. The last look is at the deadline.
  [[nodiscard]] TimePoint next_look(TimePoint now, std::optional<TimePoint> deadline, std::uint32_t random) {
    const TimePoint at = now + next(random);
    return deadline ? std::min(at, *deadline) : at;
  }

 private:
  static constexpr int kMostMultiplier = 1000;
  int multiplier_ = 1;
  int n_ = 1;
};

}  // namespace flockfs
