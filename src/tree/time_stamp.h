#pragma once

#include <time.h>

#include <cstdint>

namespace flockfs {

[[nodiscard]] inline std::int64_t to_ns(const timespec& time) {
  return std::int64_t{time.tv_sec} * 1'000'000'000 + time.tv_nsec;
}

// By the clock that file systems stamp with (current_time(), ktime_get_coarse_real_ts64): a change after this moment
// has a ctime that is not smaller, in nanoseconds as to_ns() has it.
[[nodiscard]] inline std::int64_t stamp_now() {
  timespec now{};
  ::clock_gettime(CLOCK_REALTIME_COARSE, &now);
  return to_ns(now);
}

}  // namespace flockfs
