// Who holds and who waits, as somebody who looks at it all sees it.

#include <algorithm>
#include <map>
#include <thread>
#include <vector>

#include "lock/join_fixture.h"

namespace flockfs::test {
namespace {

class WaitRoomSnapshotTest : public JoinTest {
 protected:
  // Of the only one who waits.
  static std::vector<Blocker> only_blockers(const LockSnapshot& seen) {
    EXPECT_EQ(seen.waiting.size(), 1U);
    return seen.waiting.empty() ? std::vector<Blocker>{} : seen.waiting.front().blocked_by;
  }
  static void expect_blocker(const Blocker& blocker, pid_t pid, LockMode mode, bool through_mirror) {
    EXPECT_EQ(blocker.pid, pid);
    EXPECT_EQ(blocker.mode, mode);
    EXPECT_EQ(blocker.through_mirror, through_mirror);
  }
  // Whoever is just looking at the wait tells of the grant, which may be a moment later.
  static void has_it_and_gives_it_back(Told& waiter) {
    EXPECT_TRUE(eventually([&] { return waiter.granted(); }));
    waiter.hold.reset();
  }
};

TEST_F(WaitRoomSnapshotTest, NothingIsSeenWhereNothingIs) {
  const LockSnapshot seen = room_->snapshot();
  EXPECT_TRUE(seen.held.empty());
  EXPECT_TRUE(seen.waiting.empty());
  EXPECT_EQ(foreign_.readings, 0) << "the kernel's list is read for those who wait only";
}

TEST_F(WaitRoomSnapshotTest, HoldsAreKnownByTheirNumbers) {
  Hold reader = open(10, kShared);
  Hold other = open(11, kShared);
  Hold writer = open(12, kExclusive, kOther);
  const LockSnapshot seen = room_->snapshot();
  EXPECT_EQ(seen.held.size(), 3U);
  EXPECT_EQ(seen.held.at(reader.id()), kShared);
  EXPECT_EQ(seen.held.at(other.id()), kShared);
  EXPECT_EQ(seen.held.at(writer.id()), kExclusive);
}

TEST_F(WaitRoomSnapshotTest, WhoWaitsForAClientIsSeenWithIt) {
  Hold writer = open(10, kExclusive);
  clock_.advance(milliseconds(7));
  const auto waiter = park_of(20, kShared);
  clock_.advance(milliseconds(30));
  {
    const LockSnapshot seen = room_->snapshot();
    ASSERT_EQ(seen.waiting.size(), 1U);
    EXPECT_EQ(seen.waiting.front().process, 20);
    EXPECT_EQ(seen.waiting.front().mode, kShared);
    EXPECT_EQ(seen.waiting.front().waited, milliseconds(30));
    EXPECT_FALSE(seen.waiting.front().possible_deadlock);
    ASSERT_EQ(only_blockers(seen).size(), 1U);
    expect_blocker(only_blockers(seen).front(), 10, kExclusive, true);
  }
  writer.reset();
  has_it_and_gives_it_back(*waiter);
}

// An upgrade waits for the other readers, not for the lock that it keeps meanwhile; what it keeps is held.
TEST_F(WaitRoomSnapshotTest, UpgradeWaitsForTheOthers) {
  Hold own = open(10, kShared);
  Hold other = open(11, kShared);
  holders_.set(10, kFile, 1);
  const auto upgrade = park_of(10, kExclusive);
  EXPECT_TRUE(ticked_until([&] {
    const auto blockers = only_blockers(room_->snapshot());
    return blockers.size() == 1 && blockers.front().pid == 11;
  }));
  EXPECT_EQ(room_->snapshot().held.at(own.id()), kShared);
  other.reset();
  EXPECT_TRUE(ticked_until([&] { return upgrade->told(); }));
  EXPECT_EQ(room_->snapshot().held.at(own.id()), kExclusive) << "what the kernel holds for all who share it";
  upgrade->hold.reset();
}

TEST_F(WaitRoomSnapshotTest, FlockCallThatWaitsHoldsNothingMeanwhile) {
  Hold own = open(10, kShared);
  Hold other = open(11, kShared);
  const auto waiter = park_flock(own, kExclusive);
  {
    const LockSnapshot seen = room_->snapshot();
    EXPECT_FALSE(seen.held.contains(own.id()));
    EXPECT_TRUE(seen.held.contains(other.id()));
    ASSERT_EQ(only_blockers(seen).size(), 1U);
    expect_blocker(only_blockers(seen).front(), 11, kShared, true);
  }
  other.reset();
  EXPECT_TRUE(ticked_until([&] { return waiter->told(); }));
}

TEST_F(WaitRoomSnapshotTest, ThoseOutsideAreNamedIfTheyAreInTheWay) {
  locker_.hold_outside(true);
  foreign_.locks = {{kFile, ForeignLockKind::kFlock, kShared, false, 77},
                    {kFile, ForeignLockKind::kFlock, kExclusive, true, 78},     // waits itself
                    {kOther, ForeignLockKind::kFlock, kExclusive, false, 79}};  // another file
  const auto writer = park_of(20, kExclusive);
  const auto blockers = only_blockers(room_->snapshot());
  ASSERT_EQ(blockers.size(), 1U);
  expect_blocker(blockers.front(), 77, kShared, false);
  room_->stop_waits();
  locker_.hold_outside(false);
}

// First come, first served: a reader behind a writer waits for that, although it could share what is held.
TEST_F(WaitRoomSnapshotTest, WhoWaitsForNobodyWhoHoldsWaitsForTheOneBeforeIt) {
  Hold reader = open(10, kShared);
  const auto writer = park_of(20, kExclusive);
  const auto late_reader = park_of(30, kShared);
  const auto later_reader = park_of(31, kShared);
  {
    const LockSnapshot seen = room_->snapshot();
    std::map<pid_t, std::vector<Blocker>> blockers;
    for (const WaitingLock& waiting : seen.waiting) blockers[waiting.process] = waiting.blocked_by;
    ASSERT_EQ(blockers.size(), 3U);
    ASSERT_EQ(blockers[20].size(), 1U);
    expect_blocker(blockers[20].front(), 10, kShared, true);
    for (const pid_t late : {30, 31}) {
      ASSERT_EQ(blockers[late].size(), 1U);
      expect_blocker(blockers[late].front(), 20, kExclusive, true);
    }
  }
  reader.reset();
  has_it_and_gives_it_back(*writer);
  has_it_and_gives_it_back(*late_reader);
  has_it_and_gives_it_back(*later_reader);
}

TEST_F(WaitRoomSnapshotTest, BlockersHaveALimit) {
  std::vector<Hold> readers;
  for (pid_t process = 100; process < 200; ++process) readers.push_back(open(process, kShared));
  const auto writer = park_of(20, kExclusive);
  EXPECT_EQ(only_blockers(room_->snapshot()).size(), LockSnapshot::kMostBlockers);
  room_->stop_waits();
}

// More than one step's worth, and the table grows while it is looked at.
TEST_F(WaitRoomSnapshotTest, AllOfHundredsAreSeen) {
  std::vector<Hold> held;
  for (ino_t ino = 1000; ino < 1300; ++ino) held.push_back(open(10, kShared, {1, ino}));
  std::vector<std::shared_ptr<Told>> waiters;
  for (ino_t ino = 1000; ino < 1100; ++ino) waiters.push_back(park_of(20, kExclusive, {1, ino}));
  std::thread opener([&] {
    for (ino_t ino = 5000; ino < 5300; ++ino) (void)open(11, kShared, {1, ino});
  });
  for (int round = 0; round < 5; ++round) {
    const LockSnapshot seen = room_->snapshot();
    const auto unseen = std::ranges::count_if(held, [&](const Hold& hold) { return !seen.held.contains(hold.id()); });
    EXPECT_EQ(unseen, 0);
    EXPECT_EQ(seen.waiting.size(), waiters.size());
  }
  opener.join();
  room_->stop_waits();
}

TEST_F(WaitRoomSnapshotTest, LongestWaitComesFirst) {
  Hold writer = open(10, kExclusive);
  std::vector<std::shared_ptr<Told>> waiters;
  for (const pid_t process : {21, 22, 23}) {
    waiters.push_back(park_of(process, kExclusive));
    clock_.advance(milliseconds(1));
  }
  std::vector<pid_t> order;
  for (const WaitingLock& waiting : room_->snapshot().waiting) order.push_back(waiting.process);
  EXPECT_THAT(order, ::testing::ElementsAre(21, 22, 23));
  room_->stop_waits();
}

}  // namespace
}  // namespace flockfs::test
