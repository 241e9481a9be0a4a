#pragma once

#include <chrono>

namespace flockfs {

using TimePoint = std::chrono::steady_clock::time_point;
using Duration = std::chrono::steady_clock::duration;

// The monotonic clock behind every deadline, an interface so that tests of waits need not wait. Thread-safe.
class Clock {
 public:
  virtual ~Clock() = default;
  [[nodiscard]] virtual TimePoint now() const = 0;
};

class SteadyClock final : public Clock {
 public:
  [[nodiscard]] TimePoint now() const override { return std::chrono::steady_clock::now(); }
};

// By the steady clock, for those whose waits no test has to shorten.
[[nodiscard]] inline TimePoint now() { return SteadyClock().now(); }

// Milliseconds with the fraction, as the log shows them.
[[nodiscard]] inline double to_ms(Duration duration) {
  return std::chrono::duration<double, std::milli>(duration).count();
}

}  // namespace flockfs
