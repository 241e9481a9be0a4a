// flock(2) calls of clients, on top of the locks of their opens (DESIGN 1.9).

#include <cerrno>

#include "lock/join_fixture.h"

namespace flockfs::test {
namespace {

class ClientFlockTest : public JoinTest {};

TEST_F(ClientFlockTest, UnlockGoesNoLowerThanTheOpen) {
  const Hold reader = open(10, kShared);
  EXPECT_EQ(room_->try_flock(reader, kExclusive).error, 0);
  EXPECT_TRUE(locker_.holds(kExclusive));
  EXPECT_FALSE(open(20, kShared).valid());
  room_->unlock_flock(reader);
  EXPECT_TRUE(locker_.holds(kShared));
  EXPECT_TRUE(open(20, kShared).valid());
}

TEST_F(ClientFlockTest, SharedOnAnExclusiveOpenStaysExclusive) {
  const Hold writer = open(10, kExclusive);
  EXPECT_EQ(room_->try_flock(writer, kShared).error, 0);
  room_->unlock_flock(writer);
  EXPECT_TRUE(locker_.holds(kExclusive));
}

TEST_F(ClientFlockTest, TryIsRefusedWhileAnotherReaderHasTheFile) {
  const Hold one = open(10, kShared);
  Hold two = open(20, kShared);
  EXPECT_EQ(room_->try_flock(one, kExclusive).error, EWOULDBLOCK);
  EXPECT_EQ(locker_.upgrades, 0);
  two.reset();
  EXPECT_EQ(room_->try_flock(one, kExclusive).error, 0);
}

TEST_F(ClientFlockTest, WhoIsInTheWayOfATry) {
  const Hold one = open(10, kShared);
  EXPECT_TRUE(room_->flock_blockers(one, kExclusive).empty()) << "it is not in its own way";
  const Hold own = open(10, kShared);
  EXPECT_TRUE(room_->flock_blockers(one, kExclusive).empty()) << "nor is what else its process has open";
  ASSERT_EQ(room_->try_flock(own, kShared).error, 0);
  ASSERT_EQ(room_->flock_blockers(one, kExclusive).size(), 1U) << "but what that has locked by itself is";
  EXPECT_TRUE(room_->flock_blockers(one, kShared).empty());
  room_->unlock_flock(own);
  Hold other = open(20, kShared);
  const auto blockers = room_->flock_blockers(one, kExclusive);
  ASSERT_EQ(blockers.size(), 1U);
  EXPECT_EQ(blockers[0].pid, 20);
  EXPECT_TRUE(room_->flock_blockers(one, kShared).empty());
  other.reset();
  locker_.hold_outside(true);
  EXPECT_EQ(room_->try_flock(one, kExclusive).error, EWOULDBLOCK);
  EXPECT_TRUE(room_->flock_blockers(one, kExclusive).empty()) << "somebody outside";
}

TEST_F(ClientFlockTest, TwoWhoWantMoreGetItOneAfterTheOther) {
  Hold one = open(10, kShared);
  Hold two = open(20, kShared);
  auto first = park_flock(one, kExclusive);
  EXPECT_FALSE(first->told());
  EXPECT_EQ(locker_.held(), 1U) << "a blocked call has given its shared lock up";
  auto second = park_flock(two, kExclusive);
  EXPECT_TRUE(eventually([&] { return first->told() || second->told(); }));
  Hold& winner = first->told() ? one : two;
  auto& loser = first->told() ? second : first;
  EXPECT_FALSE(loser->told());
  winner.reset();
  EXPECT_TRUE(ticked_until([&] { return loser->granted(); }));
  EXPECT_TRUE(locker_.holds(kExclusive));
}

TEST_F(ClientFlockTest, TryIgnoresThoseWhoWaitThemselves) {
  const Hold one = open(10, kShared);
  Hold two = open(20, kShared);
  auto waiting = park_flock(one, kExclusive);
  EXPECT_FALSE(waiting->told());
  EXPECT_EQ(room_->try_flock(two, kExclusive).error, 0);
  EXPECT_FALSE(waiting->told());
  two.reset();
  EXPECT_TRUE(ticked_until([&] { return waiting->granted(); }));
  EXPECT_TRUE(waiting->gave_up);
}

TEST_F(ClientFlockTest, InterruptedCallHasItsSharedLockAgain) {
  const Hold one = open(10, kShared);
  const Hold two = open(20, kShared);
  auto waiting = park_flock(one, kExclusive);
  EXPECT_EQ(locker_.held(), 1U);
  probe_.ending = true;
  room_->interrupt(waiting->id);
  EXPECT_TRUE(ticked_until([&] { return waiting->told(); }));
  EXPECT_EQ(waiting->end, WaitEnd::kInterrupted);
  EXPECT_EQ(locker_.held(), 2U);
}

TEST_F(ClientFlockTest, CallWaitsForSomebodyOutside) {
  const Hold one = open(10, kShared);
  locker_.reader_outside = true;
  auto waiting = std::shared_ptr<Told>();
  locker_.on_upgrade = [&](int) { locker_.hold_outside(true); };
  waiting = park_flock(one, kExclusive);
  EXPECT_FALSE(waiting->told());
  locker_.reader_outside = false;
  locker_.hold_outside(false);
  EXPECT_TRUE(ticked_until([&] { return waiting->granted(); }));
}

TEST_F(ClientFlockTest, OpensOfOneProcessExcludeOneAnother) {
  const Hold one = open(10, kExclusive);
  holders_.set(10, kFile, 1);
  const Hold two = join(10, kExclusive);
  EXPECT_EQ(room_->try_flock(one, kExclusive).error, 0);
  EXPECT_EQ(room_->try_flock(two, kShared).error, EWOULDBLOCK);
  auto waiting = park_flock(two, kExclusive);
  EXPECT_FALSE(waiting->told());
  room_->unlock_flock(one);
  EXPECT_TRUE(eventually([&] { return waiting->granted(); }));
  EXPECT_FALSE(waiting->gave_up);
  EXPECT_EQ(room_->try_flock(one, kShared).error, EWOULDBLOCK);
}

TEST_F(ClientFlockTest, OtherOpensOfTheProcessAreNotInItsWay) {
  Hold one = open(10, kShared);
  Hold two = open(10, kShared);
  EXPECT_EQ(room_->try_flock(one, kExclusive).error, 0);
  EXPECT_EQ(room_->try_flock(two, kShared).error, EWOULDBLOCK) << "its own flock(2) is";
  room_->unlock_flock(one);
  const Hold stranger = open(20, kShared);
  auto waiting = park_flock(two, kExclusive);
  EXPECT_FALSE(waiting->told());
  EXPECT_EQ(locker_.held(), 1U) << "none of the process holds up the stranger";
  probe_.ending = true;
  room_->interrupt(waiting->id);
  EXPECT_TRUE(ticked_until([&] { return waiting->told(); }));
  EXPECT_EQ(locker_.held(), 2U) << "had again before the call returns";
}

TEST_F(ClientFlockTest, ManyThatWaitForOneOfTheirProcessNeedNoDeepStack) {
  Hold first = open(10, kExclusive);
  holders_.set(10, kFile, 1);
  ASSERT_EQ(room_->try_flock(first, kExclusive).error, 0);
  std::vector<Hold> holds;
  std::vector<std::shared_ptr<Told>> waiting;
  for (int i = 0; i < 2000; ++i) {
    holders_.set(10, kFile, static_cast<std::size_t>(i) + 1);
    holds.push_back(join(10, kExclusive));
    ASSERT_TRUE(holds.back().valid());
    waiting.push_back(park_flock(holds.back(), kShared));
  }
  room_->unlock_flock(first);
  for (const auto& told : waiting) ASSERT_TRUE(told->granted());
}

TEST_F(ClientFlockTest, StopEndsACallThatWaits) {
  Hold one = open(10, kShared);
  const Hold two = open(20, kShared);
  auto waiting = park_flock(one, kExclusive);
  room_->stop_waits();
  EXPECT_TRUE(waiting->told());
  EXPECT_EQ(waiting->end, WaitEnd::kStopped);
  one.reset();
  EXPECT_EQ(locker_.held(), 1U);
}

}  // namespace
}  // namespace flockfs::test
