#pragma once

#include <chrono>
#include <functional>

namespace flockfs::test {

using Millis = std::chrono::milliseconds;

// How much slower than a Release build on a quiet machine the daemon may be: $FLOCKFS_TEST_SLOW, at least 1 (which is
// also the default). Every deadline of the tests is multiplied by it.
[[nodiscard]] double slow_factor();
[[nodiscard]] Millis scaled(Millis time);

// How long something that has to happen may take before the test gives up; it normally takes a millisecond. Unscaled.
inline constexpr Millis kPatience{5000};

// A point in time `time` (scaled) from now.
class Deadline {
 public:
  explicit Deadline(Millis time = kPatience);
  [[nodiscard]] bool passed() const;
  // For poll(2): rounded up, never negative.
  [[nodiscard]] int poll_ms() const;

 private:
  std::chrono::steady_clock::time_point end_;
};

// Asks again and again until `predicate` is true; false if it is not before `time` (scaled) has passed.
[[nodiscard]] bool eventually(const std::function<bool()>& predicate, Millis time = kPatience);

// For the rare check that something does NOT happen, and for work that takes its time on purpose; never to synchronise.
void pause_for(Millis unscaled);

// Measures from its construction.
class Stopwatch {
 public:
  [[nodiscard]] Millis elapsed() const;

 private:
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};

}  // namespace flockfs::test
