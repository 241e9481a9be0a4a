// Overlapping clients of the mirror let somebody outside pass.

#include <unistd.h>

#include "lock/wait_room_fixture.h"

namespace flockfs::test {
namespace {

class WaitRoomFairnessTest : public WaitRoomTest {
 protected:
  static constexpr milliseconds kBusy{201};

  void somebody_waits_outside(FileId listed = kFile) {
    foreign_.locks = {{listed, ForeignLockKind::kFlock, kExclusive, true, getpid() + 1}};
  }

  // The file is held without a gap for long, and another reader comes: returns both.
  std::pair<Hold, Hold> overlapping_readers() {
    Hold first = try_acquire(kShared);
    pass(kBusy);
    Hold second = try_acquire(kShared);
    room_->tick();
    return {std::move(first), std::move(second)};
  }
};

TEST_F(WaitRoomFairnessTest, ListIsReadOnlyWhenAFileIsHeldForLongAndAnotherReaderComes) {
  Hold first = try_acquire(kShared);
  pass(milliseconds(150));
  const Hold second = try_acquire(kShared);
  pass(milliseconds(60));
  EXPECT_EQ(foreign_.readings, 0);
  EXPECT_EQ(room_->next_tick(), std::nullopt);
  const Hold third = try_acquire(kShared);
  room_->tick();
  EXPECT_EQ(foreign_.readings, 1);
  EXPECT_EQ(room_->next_tick(), std::nullopt);
}

TEST_F(WaitRoomFairnessTest, ListIsReadAtMostEvery50Ms) {
  const auto holds = overlapping_readers();
  EXPECT_EQ(foreign_.readings, 1);
  for (int ms = 0; ms < 49; ++ms) {
    (void)try_acquire(kShared);
    pass(milliseconds(1));
  }
  EXPECT_EQ(foreign_.readings, 1);
  pass(milliseconds(1));
  (void)try_acquire(kShared);
  room_->tick();
  EXPECT_EQ(foreign_.readings, 2);
}

// A file that was replaced and closed while it yielded; the next one made may get its number.
TEST_F(WaitRoomFairnessTest, FileThatHasJustBeenMadeDoesNotYieldForTheLastOfItsNumber) {
  somebody_waits_outside();
  { auto holds = overlapping_readers(); }
  EXPECT_FALSE(try_acquire(kExclusive).valid()) << "it yields";
  LockRequest wanted = request(kExclusive);
  wanted.made = true;
  auto outcome = room_->try_acquire(wanted);
  ASSERT_TRUE(outcome);
  EXPECT_TRUE(outcome->hold.valid());
  outcome.reset();
  EXPECT_TRUE(try_acquire(kExclusive).valid());
}

TEST_F(WaitRoomFairnessTest, ShortGapIsNoGap) {
  // A woken waiter outside would lose the race for each of these gaps.
  for (int i = 0; i < 25; ++i) {
    Hold hold = try_acquire(kShared);
    pass(milliseconds(10));
    hold.reset();
    pass(milliseconds(1));
  }
  EXPECT_GT(foreign_.readings, 0);
}

TEST_F(WaitRoomFairnessTest, LongGapIsAGap) {
  for (int i = 0; i < 50; ++i) {
    Hold hold = try_acquire(kShared);
    pass(milliseconds(10));
    hold.reset();
    pass(milliseconds(6));
  }
  EXPECT_EQ(foreign_.readings, 0);
}

TEST_F(WaitRoomFairnessTest, NewReadersQueueUntilTheOneOutsideHadItsMoment) {
  somebody_waits_outside();
  auto holds = overlapping_readers();
  EXPECT_FALSE(try_acquire(kShared).valid()) << "the file yields";
  const auto late = park(kShared);
  holds.first.reset();
  EXPECT_FALSE(late->told());
  holds.second.reset();
  EXPECT_FALSE(late->told()) << "the one outside is waking up";
  foreign_.locks.clear();
  pass(milliseconds(7));
  EXPECT_FALSE(late->told());
  pass(milliseconds(1));
  ASSERT_TRUE(late->granted());
  late->hold.reset();
  EXPECT_EQ(room_->next_tick(), std::nullopt);
}

TEST_F(WaitRoomFairnessTest, QuietTimeAppliesToAFileThatNobodyOfOursWaitsFor) {
  somebody_waits_outside();
  auto holds = overlapping_readers();
  holds.first.reset();
  holds.second.reset();
  EXPECT_FALSE(try_acquire(kShared).valid());
  pass(milliseconds(8));
  EXPECT_TRUE(try_acquire(kShared).valid());
}

TEST_F(WaitRoomFairnessTest, YieldIsGivenUpAfterASecondAndNotTriedAgainForThatHolder) {
  somebody_waits_outside();
  auto holds = overlapping_readers();  // the first is a `tail -f`
  holds.second.reset();
  const auto late = park(kShared);
  pass(milliseconds(999));
  EXPECT_FALSE(late->told());
  pass(milliseconds(1));
  ASSERT_TRUE(late->granted());
  late->hold.reset();
  for (int i = 0; i < 10; ++i) {
    pass(kBusy);
    EXPECT_TRUE(try_acquire(kShared).valid());
  }
  EXPECT_EQ(foreign_.readings, 1);

  holds.first.reset();
  pass(milliseconds(10));
  auto again = overlapping_readers();
  EXPECT_FALSE(try_acquire(kShared).valid()) << "with that holder gone, it yields again";
  again.first.reset();
  again.second.reset();
  pass(milliseconds(8));
}

TEST_F(WaitRoomFairnessTest, WaiterForAnotherFileMovesNothing) {
  somebody_waits_outside({kFile.dev, kFile.ino + 1});
  const auto holds = overlapping_readers();
  EXPECT_EQ(foreign_.readings, 1);
  EXPECT_TRUE(try_acquire(kShared).valid());
}

TEST_F(WaitRoomFairnessTest, HolderOrRecordLockOutsideMovesNothing) {
  foreign_.locks = {{kFile, ForeignLockKind::kFlock, kShared, false, 1},
                    {kFile, ForeignLockKind::kPosix, kExclusive, true, 1},
                    {kFile, ForeignLockKind::kOfd, kExclusive, true, -1}};
  const auto holds = overlapping_readers();
  EXPECT_TRUE(try_acquire(kShared).valid());
}

TEST_F(WaitRoomFairnessTest, DeviceOfTheListIsLearntFromALockOfOurs) {
  const FileId listed{kFile.dev + 7, kFile.ino};  // as btrfs does
  somebody_waits_outside(listed);
  {
    const auto holds = overlapping_readers();
    EXPECT_TRUE(try_acquire(kShared).valid()) << "the same inode number on another device";
  }
  pass(milliseconds(10));
  foreign_.listed = listed;
  auto holds = overlapping_readers();
  EXPECT_FALSE(try_acquire(kShared).valid());
  holds.first.reset();
  holds.second.reset();
  pass(milliseconds(8));
}

TEST_F(WaitRoomFairnessTest, HoldersThatComeAndGoDuringTheReadingDoNotHideTheFile) {
  somebody_waits_outside();
  Hold first = try_acquire(kShared);
  pass(kBusy);
  Hold second = try_acquire(kShared);
  foreign_.while_reading = [&] {
    first.reset();
    first = try_acquire(kShared);
    second.reset();
  };
  room_->tick();
  EXPECT_FALSE(try_acquire(kShared).valid());
  first.reset();
  pass(milliseconds(8));
}

TEST_F(WaitRoomFairnessTest, WritersInARowYieldToo) {
  somebody_waits_outside();
  Hold first = try_acquire(kExclusive);
  const auto second = park(kExclusive);
  const auto third = park(kExclusive);
  pass(kBusy);
  first.reset();
  ASSERT_TRUE(second->granted());
  room_->tick();
  second->hold.reset();
  EXPECT_FALSE(third->told());
  pass(milliseconds(8));
  ASSERT_TRUE(third->granted());
  third->hold.reset();
}

TEST_F(WaitRoomFairnessTest, StopEndsWaitsForAFileThatYields) {
  somebody_waits_outside();
  auto holds = overlapping_readers();
  const auto late = park(kShared);
  room_->stop_waits();
  EXPECT_EQ(late->end, WaitEnd::kStopped);
  holds.first.reset();
  holds.second.reset();
  pass(milliseconds(8));
  EXPECT_EQ(room_->next_tick(), std::nullopt);
}

}  // namespace
}  // namespace flockfs::test
