#include "lock/lock_file_backoff.h"

#include <gtest/gtest.h>

#include <chrono>
#include <vector>

namespace flockfs {
namespace {

using std::chrono::microseconds;
using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr std::uint32_t kMiddle = 250;  // neither shortened nor lengthened

TEST(LockFileBackoffTest, PausesGrowBySquaresUpToASecond) {
  LockFileBackoff backoff;
  for (int n = 1; n <= 31; ++n) EXPECT_EQ(backoff.next(kMiddle), milliseconds(n * n)) << n;
  for (int n = 0; n < 100; ++n) EXPECT_EQ(backoff.next(kMiddle), seconds(1)) << n;
}

TEST(LockFileBackoffTest, ChanceMovesEachByAQuarterAtMost) {
  for (const std::uint32_t random : {0U, 1U, 499U, 500U, 123456789U, UINT32_MAX}) {
    LockFileBackoff backoff;
    for (int n = 1; n <= 31; ++n) {
      const Duration pause = backoff.next(random);
      EXPECT_GE(pause, microseconds(750) * n * n);
      EXPECT_LT(pause, microseconds(1250) * n * n);
    }
  }
  EXPECT_EQ(LockFileBackoff().next(0), microseconds(750));
  EXPECT_EQ(LockFileBackoff().next(499), microseconds(1249));
}

// Looks from a start on, by a clock that only these pauses move.
std::vector<milliseconds> looks_until(milliseconds timeout) {
  LockFileBackoff backoff;
  const TimePoint start{};
  const TimePoint deadline = start + timeout;
  std::vector<milliseconds> looks;
  for (TimePoint now = start; now < deadline;) {
    now = backoff.next_look(now, deadline, kMiddle);
    looks.push_back(std::chrono::duration_cast<milliseconds>(now - start));
  }
  return looks;
}

TEST(LockFileBackoffTest, LastLookIsAtTheDeadline) {
  EXPECT_EQ(looks_until(milliseconds(20)),
            (std::vector{milliseconds(1), milliseconds(5), milliseconds(14), milliseconds(20)}));
  EXPECT_EQ(looks_until(milliseconds(14)), (std::vector{milliseconds(1), milliseconds(5), milliseconds(14)}));
  EXPECT_TRUE(looks_until(milliseconds(0)).empty());
  EXPECT_EQ(looks_until(seconds(60)).back(), seconds(60));
}

TEST(LockFileBackoffTest, WithoutADeadlineItGoesOn) {
  LockFileBackoff backoff;
  TimePoint now{};
  for (int n = 0; n < 10000; ++n) {
    const TimePoint next = backoff.next_look(now, std::nullopt, 499);
    ASSERT_GT(next, now);
    now = next;
  }
}

}  // namespace
}  // namespace flockfs
