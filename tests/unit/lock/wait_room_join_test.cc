// A process never waits for itself: joining, upgrading, and circles that are refused.

#include <cerrno>

#include "lock/join_fixture.h"

namespace flockfs::test {
namespace {

TEST_F(JoinTest, ReaderJoinsTheLockOfItsProcessAndTheLastCloseEndsIt) {
  Hold writer = open(10, kExclusive);
  ASSERT_TRUE(writer.valid());
  EXPECT_FALSE(join(10, kShared).valid()) << "nothing seen of it in /proc";
  holders_.set(10, kFile, 1);
  Hold reader = join(10, kShared);
  ASSERT_TRUE(reader.valid());
  EXPECT_EQ(locker_.held(), 1U);
  writer.reset();
  EXPECT_TRUE(locker_.holds(kExclusive)) << "exclusive until the last close";
  EXPECT_FALSE(open(20, kShared).valid());
  reader.reset();
  EXPECT_EQ(locker_.held(), 0U);
}

TEST_F(JoinTest, StrangerDoesNotJoin) {
  const Hold writer = open(10, kExclusive);
  holders_.set(10, kFile, 1);
  EXPECT_FALSE(join(20, kShared).valid());
  auto told = park_of(20, kShared);
  const int before = holders_.looks;
  EXPECT_TRUE(ticked_until([&] { return holders_.looks > before + 3; }));
  EXPECT_FALSE(told->told()) << "joined a stranger's lock";
  room_->stop_waits();
}

// Between the look at a process and the join its descriptor is closed, and a stranger gets the lock.
TEST_F(JoinTest, WhatWasSeenBeforeTheTableChangedIsNotTrusted) {
  Hold own = open(10, kExclusive);
  holders_.set(10, kFile, 1);
  auto stranger = park_of(20, kExclusive);
  holders_.after_next_look(10, [&] { own.reset(); });
  EXPECT_FALSE(join(10, kExclusive).valid());
  EXPECT_TRUE(eventually([&] { return stranger->granted(); }));
}

TEST_F(JoinTest, UpgradeComesBeforeAFlockThatWaitsForItsProcess) {
  const Hold own = open(10, kShared);
  Hold other = open(20, kShared);
  holders_.set(10, kFile, 1);
  auto waiting = std::make_shared<Told>();
  room_->park_flock(other, kExclusive, 10, 1, std::make_unique<TestWaiter>(waiting));
  EXPECT_FALSE(waiting->told());
  auto upgrade = park_of(10, kExclusive);
  EXPECT_TRUE(ticked_until([&] { return upgrade->granted(); }));
  EXPECT_FALSE(waiting->told());
  room_->stop_waits();
}

// Its shared lock is given up, so there is nothing to be made exclusive.
TEST_F(JoinTest, OpenThatOnlyTriesLeavesAFlockThatWaitsAlone) {
  Hold own = open(10, kShared);
  Hold other = open(20, kShared);
  holders_.set(10, kFile, 1);
  auto waiting = std::make_shared<Told>();
  room_->park_flock(own, kExclusive, 10, 1, std::make_unique<TestWaiter>(waiting));
  EXPECT_FALSE(waiting->told());
  EXPECT_FALSE(join(10, kExclusive).valid());
  EXPECT_FALSE(join(10, kShared).valid());
  other.reset();
  EXPECT_TRUE(ticked_until([&] { return waiting->granted(); }));
  own.reset();
  EXPECT_TRUE(open(30, kExclusive).valid()) << "the table counts a holder that is not there";
}

TEST_F(JoinTest, WhoeverInheritedADescriptorJoins) {
  const Hold writer = open(10, kExclusive);
  holders_.set(20, kFile, 1);
  EXPECT_TRUE(join(20, kExclusive).valid());
}

TEST_F(JoinTest, WhatWasHandedOnDoesNotCountForTheGiver) {
  Hold given = open(10, kShared);
  Hold own = open(10, kShared);
  holders_.set(10, kFile, 1);  // of two
  EXPECT_FALSE(join(10, kExclusive).valid());
  auto told = park_of(10, kExclusive);
  given.reset();
  EXPECT_TRUE(ticked_until([&] { return told->granted(); }));
  EXPECT_EQ(locker_.held(), 1U);
}

TEST_F(JoinTest, ParkedRequestOfAHolderJoins) {
  const Hold writer = open(10, kExclusive);
  holders_.set(10, kFile, 1);
  auto told = park_of(10, kShared);
  EXPECT_TRUE(eventually([&] { return told->granted(); }));
}

TEST_F(JoinTest, JoinPassesAWaitingWriter) {
  const Hold reader = open(10, kShared);
  auto writer = park_of(20, kExclusive);
  EXPECT_FALSE(open(10, kShared).valid()) << "a new reader does not pass a waiting writer";
  holders_.set(10, kFile, 1);
  EXPECT_TRUE(join(10, kShared).valid());
  room_->stop_waits();
}

TEST_F(JoinTest, ThreadsOfOneProcessThatWaitBothGetOn) {
  locker_.hold_outside(true);
  auto first = park_of(10, kExclusive, kFile, 10);
  auto second = park_of(10, kExclusive, kFile, 11);
  EXPECT_TRUE(eventually([&] { return locker_.blocking > 0; }));
  holders_.set(10, kFile, 1);
  locker_.hold_outside(false);
  EXPECT_TRUE(ticked_until([&] { return first->granted() && second->granted(); }));
}

TEST_F(JoinTest, UpgradeIsExclusiveForAllOfTheProcess) {
  Hold one = open(10, kShared);
  Hold two = open(10, kShared);
  holders_.set(10, kFile, 2);
  Hold writer = join(10, kExclusive);
  ASSERT_TRUE(writer.valid());
  EXPECT_EQ(locker_.held(), 1U);
  EXPECT_TRUE(locker_.holds(kExclusive));
  one.reset();
  two.reset();
  EXPECT_TRUE(locker_.holds(kExclusive));
  EXPECT_FALSE(open(20, kShared).valid());
}

TEST_F(JoinTest, UpgradeKeepsItsLockWhileOthersHold) {
  const Hold own = open(10, kShared);
  Hold other = open(20, kShared);
  holders_.set(10, kFile, 1);
  auto told = park_of(10, kExclusive);
  EXPECT_TRUE(eventually([&] { return holders_.looks > 0; }));
  EXPECT_EQ(locker_.upgrades, 0) << "each try drops the lock";
  EXPECT_EQ(locker_.held(), 2U);
  other.reset();
  EXPECT_TRUE(ticked_until([&] { return told->granted(); }));
}

TEST_F(JoinTest, UpgradeComesBeforeWritersThatWait) {
  Hold own = open(10, kShared);
  holders_.set(10, kFile, 1);
  auto writer = park_of(20, kExclusive);
  auto told = park_of(10, kExclusive);
  EXPECT_TRUE(ticked_until([&] { return told->granted(); }));
  EXPECT_FALSE(writer->told());
  own.reset();
  told->hold.reset();
  EXPECT_TRUE(ticked_until([&] { return writer->granted(); }));
}

TEST_F(JoinTest, UpgradeWithAReaderOutsideTriesOnceAndThenLooks) {
  const Hold own = open(10, kShared);
  holders_.set(10, kFile, 1);
  locker_.reader_outside = true;
  foreign_.locks = {{.file = kFile, .kind = ForeignLockKind::kFlock, .mode = kShared, .waits = false, .pid = 99}};
  auto told = park_of(10, kExclusive);
  EXPECT_TRUE(eventually([&] { return locker_.upgrades == 1; }));
  for (int i = 0; i < 100; ++i) pass(milliseconds(10));
  EXPECT_TRUE(ticked_until([&] { return foreign_.readings > 1; }));
  EXPECT_EQ(locker_.upgrades, 1) << "the shared lock is not touched while somebody outside is listed";
  foreign_.locks.clear();
  locker_.reader_outside = false;
  EXPECT_TRUE(ticked_until([&] { return told->granted(); }));
}

TEST_F(JoinTest, WriterThatSlipsIntoAnUpgradeFailsItAndTheSharedLockIsHadAgain) {
  const Hold own = open(10, kShared);
  holders_.set(10, kFile, 1);
  locker_.taken_meanwhile = true;
  locker_.hold_outside(true);
  auto told = park_of(10, kExclusive);
  EXPECT_TRUE(ticked_until([&] { return told->told(); }));
  EXPECT_EQ(told->end, WaitEnd::kLost);
  EXPECT_EQ(locker_.held(), 0U);
  locker_.taken_meanwhile = false;
  locker_.hold_outside(false);
  EXPECT_TRUE(ticked_until([&] { return locker_.holds(kShared); }));
}

TEST_F(JoinTest, CloseOfTheLastOneDuringAnUpgradeLeavesNothing) {
  Hold own = open(10, kShared);
  holders_.set(10, kFile, 1);
  locker_.on_upgrade = [&](int) { own.reset(); };
  Hold writer = join(10, kExclusive);
  EXPECT_TRUE(writer.valid());
  writer.reset();
  EXPECT_EQ(locker_.held(), 0U);
}

TEST_F(JoinTest, CircleOfSingleThreadsIsRefusedToWhoeverClosesIt) {
  const Hold f = open(10, kExclusive, kFile);
  Hold g = open(20, kExclusive, kOther);
  holders_.set(10, kFile, 1);
  holders_.set(20, kOther, 1);
  auto first = park_of(10, kExclusive, kOther);
  auto second = park_of(20, kExclusive, kFile);
  EXPECT_TRUE(eventually([&] { return second->told(); }));
  EXPECT_EQ(second->end, WaitEnd::kDeadlock);
  EXPECT_FALSE(first->told());
  g.reset();
  EXPECT_TRUE(ticked_until([&] { return first->granted(); }));
}

TEST_F(JoinTest, TwoUpgradesOfOneFileAreACircle) {
  Hold one = open(10, kShared);
  Hold two = open(20, kShared);
  holders_.set(10, kFile, 1);
  holders_.set(20, kFile, 1);
  auto first = park_of(10, kExclusive);
  EXPECT_TRUE(eventually([&] { return holders_.looks > 0; }));
  auto second = park_of(20, kExclusive);
  EXPECT_TRUE(eventually([&] { return second->told(); }));
  EXPECT_EQ(second->end, WaitEnd::kDeadlock);
  two.reset();
  EXPECT_TRUE(ticked_until([&] { return first->granted(); }));
}

// Of a process that has been killed only the thread that waits may be left.
TEST_F(JoinTest, CircleThatASignalIsAboutToEndIsNotRefused) {
  const Hold f = open(10, kExclusive, kFile);
  const Hold g = open(20, kExclusive, kOther);
  holders_.set(10, kFile, 1);
  holders_.set(20, kOther, 1);
  probe_.ending = true;
  auto first = park_of(10, kExclusive, kOther);
  auto second = park_of(20, kExclusive, kFile);
  EXPECT_TRUE(ticked_until([&] { return second->suspected > 0; }));
  EXPECT_FALSE(first->told() || second->told());
  probe_.ending = false;
  EXPECT_TRUE(ticked_until([&] { return first->told() || second->told(); }));
  room_->stop_waits();
}

TEST_F(JoinTest, CircleWithAThreadThatRunsIsOnlyToldOf) {
  const Hold f = open(10, kExclusive, kFile);
  Hold g = open(20, kExclusive, kOther);
  holders_.set(10, kFile, 1);
  holders_.set(20, kOther, 1);
  holders_.set_threads(10, 2);
  auto first = park_of(10, kExclusive, kOther);
  auto second = park_of(20, kExclusive, kFile);
  EXPECT_TRUE(ticked_until([&] { return second->suspected > 0; }));
  EXPECT_FALSE(first->told() || second->told());
  EXPECT_EQ(second->suspected, 1);
  room_->stop_waits();
}

TEST_F(JoinTest, WaitWithATimeIsNoPartOfACircle) {
  const Hold f = open(10, kExclusive, kFile);
  const Hold g = open(20, kExclusive, kOther);
  holders_.set(10, kFile, 1);
  holders_.set(20, kOther, 1);
  auto first = std::make_shared<Told>();
  LockRequest timed = request_of(10, kExclusive, kOther);
  timed.deadline = clock_.now() + std::chrono::hours(1);
  room_->park(std::move(timed), std::make_unique<TestWaiter>(first));
  auto second = park_of(20, kExclusive, kFile);
  EXPECT_TRUE(eventually([&] { return holders_.looks > 1; }));
  EXPECT_FALSE(first->told() || second->told());
  room_->stop_waits();
}

TEST_F(JoinTest, WithReopenWaitEachOpenStandsForItself) {
  use(Reopen::kWait);
  holders_.set_threads(10, 8);
  Hold held = open(10, kExclusive);
  holders_.set(10, kFile, 1);
  EXPECT_FALSE(join(10, kExclusive).valid());
  auto other_thread = park_of(10, kExclusive, kFile, 11);
  auto own_thread = park_of(10, kExclusive, kFile, 10);
  EXPECT_TRUE(eventually([&] { return own_thread->told(); }));
  EXPECT_EQ(own_thread->end, WaitEnd::kDeadlock);
  EXPECT_FALSE(other_thread->told());
  held.reset();
  EXPECT_TRUE(ticked_until([&] { return other_thread->granted(); }));
}

}  // namespace
}  // namespace flockfs::test
