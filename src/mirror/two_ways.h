#pragma once

#include <array>
#include <cstdint>

#include "base/clock.h"

namespace flockfs {

// Which of two ways of doing the same is quicker, found out by doing it: both take turns for a while, then the better
// one is kept for ten times as long and more, and so on. Until the end of the first trial it is the first way that is
// kept. One thread at a time.
class TwoWays {
 public:
  // At the end of a turn in which so much has been done. Whether the next one is the second way's.
  bool turn(std::uint64_t done, Duration lasted);

 private:
  struct Way {
    std::uint64_t done = 0;
    Duration lasted{};
  };
  [[nodiscard]] bool second_is_quicker() const;

  unsigned turn_ = 0;
  bool second_ = false;  // the way of this turn
  std::array<Way, 2> ways_{};
};

}  // namespace flockfs
