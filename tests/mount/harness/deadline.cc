#include "harness/deadline.h"

#include <algorithm>
#include <cstdlib>
#include <thread>

namespace flockfs::test {

double slow_factor() {
  static const double factor = [] {
    const char* text = std::getenv("FLOCKFS_TEST_SLOW");
    return text == nullptr ? 1.0 : std::max(1.0, std::strtod(text, nullptr));
  }();
  return factor;
}

Millis scaled(Millis time) {
  return Millis(static_cast<Millis::rep>(static_cast<double>(time.count()) * slow_factor()));
}

Deadline::Deadline(Millis time) : end_(std::chrono::steady_clock::now() + scaled(time)) {}

bool Deadline::passed() const { return std::chrono::steady_clock::now() >= end_; }

int Deadline::poll_ms() const {
  const auto left = std::chrono::ceil<Millis>(end_ - std::chrono::steady_clock::now()).count();
  return static_cast<int>(std::max<Millis::rep>(left, 0));
}

bool eventually(const std::function<bool()>& predicate, Millis time) {
  const Deadline deadline(time);
  Millis nap{0};
  while (!predicate()) {
    if (deadline.passed()) return predicate();
    std::this_thread::sleep_for(nap);
    nap = std::min(nap + Millis(1), Millis(10));
  }
  return true;
}

void pause_for(Millis unscaled) { std::this_thread::sleep_for(unscaled); }

Millis Stopwatch::elapsed() const {
  return std::chrono::duration_cast<Millis>(std::chrono::steady_clock::now() - start_);
}

}  // namespace flockfs::test
