#include "lock/wait_room_fixture.h"

namespace flockfs::test {
namespace {

TEST_F(WaitRoomTest, FreeFileIsLockedAtOnce) {
  const Hold hold = try_acquire(kExclusive);
  EXPECT_TRUE(hold.valid());
  EXPECT_EQ(hold.mode(), kExclusive);
  EXPECT_GE(hold.fd(), 0);
  EXPECT_EQ(room_->stats().held, 1U);
}

TEST_F(WaitRoomTest, ReadersShareAndWritersExclude) {
  Hold first = try_acquire(kShared);
  Hold second = try_acquire(kShared);
  EXPECT_TRUE(second.valid());
  EXPECT_FALSE(try_acquire(kExclusive).valid());
  first.reset();
  EXPECT_FALSE(try_acquire(kExclusive).valid());
  second.reset();
  const Hold writer = try_acquire(kExclusive);
  EXPECT_TRUE(writer.valid());
  EXPECT_FALSE(try_acquire(kShared).valid());
}

TEST_F(WaitRoomTest, FailedLockSaysWhy) {
  locker_.fail_with(ENOLCK);
  LockRequest wanted = request(kShared);
  const std::optional<LockOutcome> outcome = room_->try_acquire(wanted);
  ASSERT_TRUE(outcome.has_value());
  EXPECT_EQ(outcome->end, WaitEnd::kFailed);
  EXPECT_EQ(outcome->error, ENOLCK);

  const auto told = park(kShared);
  ASSERT_TRUE(told->told());
  EXPECT_EQ(told->end, WaitEnd::kFailed);
  EXPECT_EQ(told->error, ENOLCK);
}

TEST_F(WaitRoomTest, HolderOutsideIsNotPassedByATry) {
  locker_.hold_outside(true);
  EXPECT_FALSE(try_acquire(kShared).valid());
  EXPECT_EQ(room_->stats().held, 0U);
}

TEST_F(WaitRoomTest, ReleaseGrantsTheNextWait) {
  Hold hold = try_acquire(kExclusive);
  const auto told = park(kExclusive);
  EXPECT_FALSE(told->told());
  clock_.advance(milliseconds(30));
  hold.reset();
  ASSERT_TRUE(told->granted());
  EXPECT_EQ(told->waited, milliseconds(30));
  told->hold.reset();
}

TEST_F(WaitRoomTest, WaitsAreServedFirstComeFirstServed) {
  Hold hold = try_acquire(kExclusive);
  std::vector<int> served;
  std::vector<std::shared_ptr<Told>> all;
  for (int i = 0; i < 10; ++i) {
    all.push_back(park(kExclusive, {}, [&served, i](Told& told) {
      served.push_back(i);
      told.hold.reset();
    }));
  }
  hold.reset();
  EXPECT_EQ(served, (std::vector<int>{0, 1, 2, 3, 4, 5, 6, 7, 8, 9}));
}

TEST_F(WaitRoomTest, NewReaderDoesNotPassAWaitingWriter) {
  Hold reader = try_acquire(kShared);
  const auto writer = park(kExclusive);
  EXPECT_FALSE(try_acquire(kShared).valid());
  const auto late = park(kShared);
  EXPECT_FALSE(late->told());
  reader.reset();
  ASSERT_TRUE(writer->granted());
  EXPECT_FALSE(late->told());
  writer->hold.reset();
  ASSERT_TRUE(late->granted());
  late->hold.reset();
}

TEST_F(WaitRoomTest, ReadersInARowAreLetInTogether) {
  Hold hold = try_acquire(kExclusive);
  std::vector<std::shared_ptr<Told>> readers;
  for (int i = 0; i < 5; ++i) readers.push_back(park(kShared));
  const auto writer = park(kExclusive);
  const auto last = park(kShared);
  hold.reset();
  for (const auto& reader : readers) EXPECT_TRUE(reader->granted());
  EXPECT_FALSE(writer->told());
  for (const auto& reader : readers) reader->hold.reset();
  EXPECT_TRUE(writer->granted());
  EXPECT_FALSE(last->told());
  writer->hold.reset();
  EXPECT_TRUE(last->granted());
  last->hold.reset();
}

TEST_F(WaitRoomTest, DeadlineEndsAWaitAndLetsOthersPass) {
  Hold reader = try_acquire(kShared);
  const auto writer = park(kExclusive, milliseconds(100));
  const auto behind = park(kShared);
  EXPECT_EQ(room_->next_tick(), clock_.now() + milliseconds(100));
  pass(milliseconds(99));
  EXPECT_FALSE(writer->told());
  pass(milliseconds(1));
  ASSERT_TRUE(writer->told());
  EXPECT_EQ(writer->end, WaitEnd::kTimedOut);
  EXPECT_EQ(writer->waited, milliseconds(100));
  ASSERT_TRUE(behind->granted()) << "the reader behind the writer that gave up waits for nobody";
  behind->hold.reset();
  EXPECT_EQ(room_->next_tick(), std::nullopt);
}

TEST_F(WaitRoomTest, PassedDeadlineStillTriesOnce) {
  const auto told = park(kExclusive, milliseconds(0));
  ASSERT_TRUE(told->granted());
  told->hold.reset();
}

TEST_F(WaitRoomTest, StopEndsAllWaitsAndEachLaterOne) {
  Hold hold = try_acquire(kExclusive);
  const auto first = park(kExclusive);
  const auto second = park(kShared);
  room_->stop_waits();
  EXPECT_EQ(first->end, WaitEnd::kStopped);
  EXPECT_EQ(second->end, WaitEnd::kStopped);
  const auto late = park(kShared);
  ASSERT_TRUE(late->told());
  EXPECT_EQ(late->end, WaitEnd::kStopped);
  EXPECT_EQ(room_->stats().held, 1U) << "what is held stays";
  hold.reset();
  EXPECT_TRUE(try_acquire(kShared).valid()) << "a try waits for nobody and goes on";
}

TEST_F(WaitRoomTest, InterruptWithAnEndingSignalEndsTheWait) {
  Hold hold = try_acquire(kExclusive);
  const auto told = park(kExclusive);
  probe_.ending = true;
  room_->interrupt(told->id);
  EXPECT_FALSE(told->told()) << "interrupt() itself looks at nothing";
  room_->tick();
  ASSERT_TRUE(told->told());
  EXPECT_EQ(told->end, WaitEnd::kInterrupted);
  room_->interrupt(told->id);  // unknown by now
  EXPECT_EQ(room_->next_tick(), std::nullopt);
}

TEST_F(WaitRoomTest, HarmlessInterruptIsLookedAtAgainEvery50Ms) {
  Hold hold = try_acquire(kExclusive);
  const auto told = park(kExclusive);
  room_->interrupt(told->id);
  room_->interrupt(told->id);
  room_->tick();
  EXPECT_EQ(probe_.looks, 1);
  pass(milliseconds(49));
  EXPECT_EQ(probe_.looks, 1);
  pass(milliseconds(1));
  EXPECT_EQ(probe_.looks, 2);
  probe_.ending = true;
  pass(milliseconds(50));
  EXPECT_EQ(told->end, WaitEnd::kInterrupted);
  hold.reset();
}

TEST_F(WaitRoomTest, InterruptBeforeParkIsFinishedCounts) {
  probe_.ending = true;
  auto told = std::make_shared<Told>();
  auto waiter = std::make_unique<TestWaiter>(told);
  waiter->when_parked = [this, told](WaitId id) {
    room_->interrupt(id);
    room_->tick();
    EXPECT_FALSE(told->told()) << "no outcome before on_parked() has returned";
  };
  room_->park(request(kExclusive), std::move(waiter));
  ASSERT_TRUE(told->told());
  EXPECT_EQ(told->end, WaitEnd::kInterrupted);
  EXPECT_EQ(locker_.tries, 0);
}

TEST_F(WaitRoomTest, StopBeforeParkIsFinishedCounts) {
  auto told = std::make_shared<Told>();
  auto waiter = std::make_unique<TestWaiter>(told);
  waiter->when_parked = [this](WaitId) { room_->stop_waits(); };
  room_->park(request(kExclusive), std::move(waiter));
  EXPECT_EQ(told->end, WaitEnd::kStopped);
}

TEST_F(WaitRoomTest, WaitCancelledWhileTheKernelIsAskedGivesTheLockBackAndTheNextGetsIt) {
  Hold hold = try_acquire(kExclusive);
  const auto dead = park(kExclusive, milliseconds(10));
  const auto next = park(kExclusive);
  locker_.on_try = [this](int) {
    pass(milliseconds(10));  // the deadline passes just then
  };
  hold.reset();
  ASSERT_TRUE(dead->told());
  EXPECT_EQ(dead->end, WaitEnd::kTimedOut);
  EXPECT_EQ(locker_.tries, 3) << "the dead wait's lock was granted and given back";
  ASSERT_TRUE(next->granted());
  next->hold.reset();
}

TEST_F(WaitRoomTest, WaitCancelledAfterItsGrantKeepsTheLock) {
  const auto told = park(kExclusive, milliseconds(10));
  ASSERT_TRUE(told->granted());
  pass(milliseconds(20));
  room_->interrupt(told->id);
  room_->stop_waits();
  EXPECT_EQ(told->times, 1);
  EXPECT_EQ(room_->stats().held, 1U);
  told->hold.reset();
}

TEST_F(WaitRoomTest, QueuedBehindATryThatFailsIsServed) {
  // A reader comes while a writer's try is under way; that try fails, and nobody else would wake the reader.
  std::shared_ptr<Told> reader;
  locker_.hold_outside(true);
  locker_.on_try = [&](int) {
    reader = park(kShared);
    EXPECT_FALSE(reader->told());
  };
  EXPECT_FALSE(try_acquire(kExclusive).valid());
  locker_.hold_outside(false);
  ASSERT_TRUE(eventually([&] { return reader->granted(); }));
  reader->hold.reset();
}

TEST_F(WaitRoomTest, ThousandWaitersThatReleaseInTheirCallbackNeedNoDeepStack) {
  Hold hold = try_acquire(kExclusive);
  int depth = 0;
  int deepest = 0;
  std::vector<std::shared_ptr<Told>> all;
  for (int i = 0; i < 1000; ++i) {
    all.push_back(park(kExclusive, {}, [&](Told& told) {
      deepest = std::max(deepest, ++depth);
      told.hold.reset();
      --depth;
    }));
  }
  hold.reset();
  for (const auto& told : all) EXPECT_TRUE(told->granted());
  EXPECT_EQ(deepest, 1);
  EXPECT_EQ(locker_.tries, 1001) << "one wake-up each";
}

// But the one at which a wait becomes a long one.
TEST_F(WaitRoomTest, IdleRoomHasNoTimer) {
  Hold hold = try_acquire(kShared);
  EXPECT_EQ(room_->next_tick(), std::nullopt);
  const auto told = park(kExclusive);
  EXPECT_EQ(room_->next_tick(), clock_.now() + kLongWait);
  pass(kLongWait);
  EXPECT_EQ(room_->next_tick(), std::nullopt);
  hold.reset();
  told->hold.reset();
}

}  // namespace
}  // namespace flockfs::test
