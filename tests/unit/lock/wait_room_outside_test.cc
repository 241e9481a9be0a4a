// Waits for holders outside the mirror: in a thread of the pool, or by polling where none can be had.

#include "lock/wait_room_fixture.h"

namespace flockfs::test {
namespace {

class WaitRoomOutsideTest : public WaitRoomTest {
 protected:
  WaitRoomOutsideTest() { locker_.hold_outside(true); }

  // Parks and waits until a thread blocks for it.
  std::shared_ptr<Told> park_blocking(LockMode mode, std::optional<Duration> timeout = {}) {
    auto told = park(mode, timeout);
    EXPECT_TRUE(eventually([this] { return locker_.blocking == 1; }));
    return told;
  }
};

TEST_F(WaitRoomOutsideTest, WaitIsGrantedWhenTheHolderOutsideHasGone) {
  const auto told = park_blocking(kExclusive);
  EXPECT_FALSE(told->told());
  locker_.hold_outside(false);
  ASSERT_TRUE(eventually([&] { return told->told(); }));
  EXPECT_TRUE(told->granted());
  told->hold.reset();
}

TEST_F(WaitRoomOutsideTest, OneThreadWaitsForAFileHoweverManyWait) {
  std::vector<std::shared_ptr<Told>> all;
  for (int i = 0; i < 100; ++i) all.push_back(park(kShared));
  ASSERT_TRUE(eventually([this] { return locker_.blocking == 1; }));
  EXPECT_EQ(pool_->threads(), 1U);
  locker_.hold_outside(false);
  for (const auto& told : all) {
    ASSERT_TRUE(eventually([&] { return told->granted(); }));
    told->hold.reset();
  }
}

TEST_F(WaitRoomOutsideTest, TimeoutAnswersAtOnceAndTheThreadComesBack) {
  const auto told = park_blocking(kExclusive, milliseconds(10));
  pass(milliseconds(10));
  ASSERT_TRUE(told->told());
  EXPECT_EQ(told->end, WaitEnd::kTimedOut);
  EXPECT_TRUE(eventually([this] { return locker_.blocking == 0; }));
}

TEST_F(WaitRoomOutsideTest, SignalEndsAWaitForWhichAThreadBlocks) {
  const auto told = park_blocking(kShared);
  probe_.ending = true;
  room_->interrupt(told->id);
  room_->tick();
  ASSERT_TRUE(told->told());
  EXPECT_EQ(told->end, WaitEnd::kInterrupted);
}

TEST_F(WaitRoomOutsideTest, StopEndsAWaitForWhichAThreadBlocks) {
  const auto told = park_blocking(kShared);
  room_->stop_waits();
  EXPECT_EQ(told->end, WaitEnd::kStopped);
}

TEST_F(WaitRoomOutsideTest, LockGrantedToADeadWaitIsGivenBackAndTheNextGetsIt) {
  locker_.deaf = true;  // the signal comes too late: the kernel grants first
  const auto dead = park_blocking(kExclusive, milliseconds(10));
  const auto next = park(kExclusive);
  pass(milliseconds(10));
  EXPECT_EQ(dead->end, WaitEnd::kTimedOut);
  EXPECT_FALSE(next->told());
  locker_.hold_outside(false);
  ASSERT_TRUE(eventually([&] { return next->granted(); }));
  EXPECT_EQ(locker_.order.size(), 2U);
  next->hold.reset();
}

TEST_F(WaitRoomOutsideTest, LockGrantedToTheLastDeadWaitIsGivenBack) {
  locker_.deaf = true;
  const auto dead = park_blocking(kExclusive, milliseconds(10));
  pass(milliseconds(10));
  locker_.hold_outside(false);
  ASSERT_TRUE(eventually([this] { return locker_.blocking == 0 && locker_.held() == 0; }));
  EXPECT_TRUE(eventually([this] { return try_acquire(kExclusive).valid(); }));
}

TEST_F(WaitRoomOutsideTest, CancelBetweenTheGrantAndItsSettlingGivesTheLockBack) {
  locker_.after_wait = [this](int) { pass(milliseconds(10)); };
  const auto dead = park_blocking(kExclusive, milliseconds(10));
  const auto next = park(kShared);
  locker_.hold_outside(false);
  ASSERT_TRUE(eventually([&] { return next->granted(); }));
  EXPECT_EQ(dead->end, WaitEnd::kTimedOut);
  EXPECT_EQ(locker_.held(), 1U);
  next->hold.reset();
}

TEST_F(WaitRoomOutsideTest, FileIsNotClosedWhileAThreadBlocksInIt) {
  std::atomic<int> blocked_fd{-1};
  std::atomic<bool> was_open{false};
  locker_.deaf = true;
  locker_.after_wait = [&](int fd) {
    was_open = fcntl(fd, F_GETFD) >= 0;
    blocked_fd = fd;
  };
  const auto told = park_blocking(kExclusive, milliseconds(10));
  pass(milliseconds(10));
  ASSERT_TRUE(told->told());
  locker_.hold_outside(false);
  ASSERT_TRUE(eventually([&] { return blocked_fd >= 0; }));
  EXPECT_TRUE(was_open);
  EXPECT_TRUE(eventually([&] { return fcntl(blocked_fd, F_GETFD) < 0; })) << "and it is closed afterwards";
}

TEST_F(WaitRoomOutsideTest, FailureWhileBlockedIsToldAndTheNextIsTried) {
  const auto first = park_blocking(kExclusive);
  const auto second = park(kExclusive);
  locker_.fail_with(EIO);
  ASSERT_TRUE(eventually([&] { return first->told() && second->told(); }));
  EXPECT_EQ(first->error, EIO);
  EXPECT_EQ(second->error, EIO);
}

TEST_F(WaitRoomOutsideTest, TheNextIsBlockedForWhenTheFirstGivesUp) {
  const auto first = park_blocking(kExclusive, milliseconds(10));
  const auto second = park(kShared);
  pass(milliseconds(10));
  EXPECT_EQ(first->end, WaitEnd::kTimedOut);
  locker_.hold_outside(false);
  ASSERT_TRUE(eventually([&] { return second->granted(); }));
  second->hold.reset();
}

TEST_F(WaitRoomOutsideTest, WithoutAThreadTheKeeperPollsWithGrowingPauses) {
  use_pool(0);
  const auto told = park(kExclusive);
  EXPECT_EQ(locker_.tries, 1);
  std::vector<int> pauses;
  for (int i = 0; i < 7; ++i) {
    const auto next = room_->next_tick();
    ASSERT_TRUE(next.has_value());
    pauses.push_back(static_cast<int>(to_ms(*next - clock_.now())));
    pass(*next - clock_.now());
  }
  EXPECT_EQ(pauses, (std::vector<int>{1, 2, 4, 8, 16, 20, 20}));
  EXPECT_EQ(locker_.tries, 8);
  locker_.hold_outside(false);
  pass(milliseconds(20));
  ASSERT_TRUE(told->granted());
  told->hold.reset();
  pass(milliseconds(20));
  EXPECT_EQ(room_->next_tick(), std::nullopt) << "nothing left to poll";
}

TEST_F(WaitRoomOutsideTest, PolledWaitCanTimeOut) {
  use_pool(0);
  const auto told = park(kExclusive, milliseconds(5));
  for (int i = 0; i < 10; ++i) pass(milliseconds(1));
  ASSERT_TRUE(told->told());
  EXPECT_EQ(told->end, WaitEnd::kTimedOut);
  pass(milliseconds(20));
  EXPECT_EQ(room_->next_tick(), std::nullopt);
}

TEST_F(WaitRoomOutsideTest, DestructionWaitsForThreadsOnTheirWayBack) {
  std::atomic<bool> back{false};
  locker_.after_wait = [&](int) {
    std::this_thread::sleep_for(milliseconds(50));
    back = true;
  };
  (void)park_blocking(kExclusive);
  room_->stop_waits();
  room_.reset();
  EXPECT_TRUE(back);
  room_ = make_room();
}

}  // namespace
}  // namespace flockfs::test
