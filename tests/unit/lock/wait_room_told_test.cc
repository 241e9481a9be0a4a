// When a waiter is told that it has to wait: once it is sure, once, and before the end of the wait.

#include "lock/join_fixture.h"

namespace flockfs::test {
namespace {

class ToldTest : public JoinTest {
 protected:
  std::shared_ptr<Told> park_with(LockRequest wanted, std::function<void()> when_waiting) {
    auto told = std::make_shared<Told>();
    auto waiter = std::make_unique<TestWaiter>(told);
    waiter->when_waiting = std::move(when_waiting);
    room_->park(std::move(wanted), std::move(waiter));
    return told;
  }
};

TEST_F(ToldTest, OneThatWaitsForAStrangerIsToldOnce) {
  Hold other = open(20, kExclusive);
  auto told = park_of(10, kShared);
  EXPECT_TRUE(eventually([&] { return told->waits == 1; }));
  EXPECT_FALSE(told->told());
  other.reset();
  EXPECT_TRUE(ticked_until([&] { return told->granted(); }));
  EXPECT_EQ(told->waits, 1);
}

TEST_F(ToldTest, OneThatWaitsForSomebodyOutsideIsToldWithoutALookAtItsProcess) {
  locker_.hold_outside(true);
  auto told = park_of(10, kExclusive);
  EXPECT_EQ(told->waits, 1);
  EXPECT_EQ(holders_.looks, 0);
  room_->stop_waits();
  EXPECT_TRUE(told->told());
}

TEST_F(ToldTest, OneThatGetsTheLockWhenItIsParkedHasNotWaited) {
  auto told = park_of(10, kExclusive);
  EXPECT_TRUE(told->granted());
  EXPECT_EQ(told->waits, 0);
}

TEST_F(ToldTest, OneThatJoinsWhatItsProcessHasHasNotWaited) {
  const Hold own = open(10, kExclusive);
  holders_.set(10, kFile, 1);
  auto told = park_of(10, kShared);
  EXPECT_TRUE(eventually([&] { return told->granted(); }));
  EXPECT_EQ(told->waits, 0);
}

TEST_F(ToldTest, OneThatMakesWhatItsProcessHasExclusiveHasNotWaited) {
  const Hold own = open(10, kShared);
  holders_.set(10, kFile, 1);
  auto told = park_of(10, kExclusive);
  EXPECT_TRUE(eventually([&] { return told->granted(); }));
  EXPECT_EQ(told->waits, 0);
}

TEST_F(ToldTest, UpgradeThatAnotherHolderIsInTheWayOfWaits) {
  const Hold own = open(10, kShared);
  Hold other = open(20, kShared);
  holders_.set(10, kFile, 1);
  auto told = park_of(10, kExclusive);
  EXPECT_TRUE(eventually([&] { return told->waits == 1; }));
  other.reset();
  EXPECT_TRUE(ticked_until([&] { return told->granted(); }));
  EXPECT_EQ(told->waits, 1);
}

TEST_F(ToldTest, WhereEachOpenStandsForItselfThereIsNothingToBeJoined) {
  use(Reopen::kWait);
  Hold own = open(10, kShared);
  auto told = park_of(10, kExclusive, kFile, 11);
  EXPECT_EQ(told->waits, 1);
  own.reset();
  EXPECT_TRUE(told->granted());
}

TEST_F(ToldTest, WaitThatEndsBeforeTheFirstLookIsToldBeforeItsEnd) {
  use_pool(0);  // what the pool would do is left to the next tick
  Hold other = open(20, kExclusive);
  auto granted = park_of(10, kShared);
  EXPECT_EQ(granted->waits, 0);
  other.reset();
  EXPECT_TRUE(granted->granted());
  EXPECT_EQ(granted->waits, 1);
  auto stopped = park_of(30, kExclusive);
  EXPECT_EQ(stopped->waits, 0);
  room_->stop_waits();
  EXPECT_EQ(stopped->end, WaitEnd::kStopped);
  EXPECT_EQ(stopped->waits, 1);
}

TEST_F(ToldTest, OneThatIsStoppedBeforeItIsQueuedHasNotWaited) {
  room_->stop_waits();
  auto told = park_of(10, kShared);
  EXPECT_EQ(told->end, WaitEnd::kStopped);
  EXPECT_EQ(told->waits, 0);
}

// TestWaiter sees to it that the end comes after the wait.
TEST_F(ToldTest, LockThatIsGrantedMeanwhileIsToldAfterwards) {
  Hold other = open(20, kExclusive);
  auto told = park_with(request_of(10, kExclusive), [&] { other.reset(); });
  EXPECT_TRUE(ticked_until([&] { return told->granted(); }));
  EXPECT_TRUE(told->hold.valid());
  EXPECT_EQ(told->waits, 1);
}

TEST_F(ToldTest, InterruptThatComesMeanwhileIsNotLost) {
  const Hold other = open(20, kExclusive);
  probe_.ending = true;
  auto told = std::make_shared<Told>();
  auto waiter = std::make_unique<TestWaiter>(told);
  waiter->when_waiting = [&] {
    room_->interrupt(told->id);
    room_->tick();
  };
  room_->park(request_of(10, kExclusive), std::move(waiter));
  EXPECT_TRUE(ticked_until([&] { return told->told(); }));
  EXPECT_EQ(told->end, WaitEnd::kInterrupted);
  EXPECT_EQ(told->waits, 1);
}

// Between the wait's place in the queue and the first look at its process.
TEST_F(ToldTest, InterruptThatComesBeforeTheFirstLookIsNotLost) {
  use_pool(0);
  const Hold other = open(20, kExclusive);
  auto told = park_of(10, kExclusive);
  EXPECT_EQ(told->waits, 0);
  probe_.ending = true;
  room_->interrupt(told->id);
  EXPECT_TRUE(ticked_until([&] { return told->told(); }));
  EXPECT_EQ(told->end, WaitEnd::kInterrupted);
  EXPECT_EQ(told->waits, 1);
}

}  // namespace
}  // namespace flockfs::test
