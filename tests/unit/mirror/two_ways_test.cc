#include "mirror/two_ways.h"

#include <gtest/gtest.h>

#include <array>
#include <chrono>
#include <cstdint>

namespace flockfs {
namespace {

using std::chrono::microseconds;

constexpr int kPeriod = 512;  // turns from one trial to the next
constexpr int kTrial = 40;

class TwoWaysTest : public testing::Test {
 protected:
  // What each way does in a turn of two milliseconds.
  std::array<std::uint64_t, 2> does{};

  // Of so many turns, how many are the second way's.
  int second_of(int turns) {
    int count = 0;
    for (int i = 0; i < turns; ++i) {
      second_ = ways_.turn(does[second_ ? 1 : 0], microseconds(2000));
      count += second_ ? 1 : 0;
    }
    return count;
  }
  bool second() const { return second_; }
  TwoWays ways_;

 private:
  bool second_ = false;
};

TEST_F(TwoWaysTest, BothAreTriedAlikeAndTheQuickerIsKept) {
  does = {100, 101};
  EXPECT_EQ(second_of(kTrial - 1), kTrial / 2);
  EXPECT_EQ(second_of(kPeriod - kTrial), kPeriod - kTrial);
}

TEST_F(TwoWaysTest, TheFirstIsKeptIfItIsAsQuick) {
  does = {100, 100};
  EXPECT_EQ(second_of(kTrial - 1), kTrial / 2);
  EXPECT_EQ(second_of(kPeriod - kTrial), 0);
}

TEST_F(TwoWaysTest, NothingIsKeptForever) {
  does = {100, 200};
  second_of(kPeriod - 1);
  EXPECT_TRUE(second());
  does = {200, 100};
  second_of(kPeriod);
  EXPECT_FALSE(second());
  does = {100, 200};
  second_of(kPeriod);
  EXPECT_TRUE(second());
}

// A turn ends when a thread gets to run.
TEST_F(TwoWaysTest, ItIsTheRateThatCounts) {
  bool second = false;
  for (int i = 0; i < kTrial; ++i) second = ways_.turn(second ? 150 : 100, microseconds(second ? 4000 : 2000));
  EXPECT_FALSE(second);
}

TEST_F(TwoWaysTest, NothingDoneByEitherKeepsTheFirst) {
  EXPECT_EQ(second_of(kTrial), kTrial / 2);
  EXPECT_FALSE(second());
}

}  // namespace
}  // namespace flockfs
