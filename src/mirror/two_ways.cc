#include "mirror/two_ways.h"

namespace flockfs {
namespace {

// Turns that a way has in a row, so that more is seen of it than of the change to it.
constexpr unsigned kInARow = 2;
// Turns of a trial, an even number of rows; and those from the beginning of one trial to that of the next.
constexpr unsigned kTrial = 40;
constexpr unsigned kPeriod = 512;

}  // namespace

bool TwoWays::turn(std::uint64_t done, Duration lasted) {
  if (turn_ < kTrial) {
    Way& way = ways_[second_ ? 1 : 0];
    way.done += done;
    way.lasted += lasted;
  }
  turn_ = (turn_ + 1) % kPeriod;
  if (turn_ == 0) ways_ = {};
  if (turn_ < kTrial) {
    second_ = turn_ / kInARow % 2 != 0;
  } else if (turn_ == kTrial) {
    second_ = second_is_quicker();
  }
  return second_;
}

bool TwoWays::second_is_quicker() const {
  const auto product = [](std::uint64_t done, Duration lasted) {
    return static_cast<double>(done) * static_cast<double>(lasted.count());
  };
  return product(ways_[1].done, ways_[0].lasted) > product(ways_[0].done, ways_[1].lasted);
}

}  // namespace flockfs
