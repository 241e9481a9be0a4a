// Waits that last, and who stands in their way.

#include "lock/wait_room_fixture.h"

namespace flockfs::test {
namespace {

constexpr FileId kOtherFile{1, 43};

class LongWaitTest : public WaitRoomTest {
 protected:
  // Parks a request of this process; what it is told of its blockers goes to `blockers`, one element a call.
  std::shared_ptr<Told> park_of(pid_t process, LockMode mode, std::vector<std::vector<Blocker>>& blockers) {
    auto told = std::make_shared<Told>();
    auto waiter = std::make_unique<TestWaiter>(told);
    waiter->when_long = [&blockers](const std::vector<Blocker>& who) { blockers.push_back(who); };
    LockRequest wanted = request(mode);
    wanted.owner = {process, 0};
    room_->park(std::move(wanted), std::move(waiter));
    return told;
  }
  Hold hold_of(pid_t process, LockMode mode) {
    LockRequest wanted = request(mode);
    wanted.owner = {process, 0};
    auto outcome = room_->try_acquire(wanted);
    return outcome ? std::move(outcome->hold) : Hold{};
  }
};

TEST_F(LongWaitTest, IsToldOnceAndOfAllWhoBlock) {
  foreign_.locks = {{kFile, ForeignLockKind::kFlock, kShared, false, 300},
                    {kFile, ForeignLockKind::kFlock, kExclusive, true, 301},
                    {kFile, ForeignLockKind::kPosix, kExclusive, false, 302},
                    {kOtherFile, ForeignLockKind::kFlock, kExclusive, false, 303}};
  Hold reader = hold_of(100, kShared);
  std::vector<std::vector<Blocker>> first;
  std::vector<std::vector<Blocker>> second;
  const auto writer = park_of(200, kExclusive, first);
  const auto behind = park_of(201, kShared, second);
  pass(kLongWait - milliseconds(1));
  EXPECT_TRUE(first.empty());
  EXPECT_EQ(foreign_.readings, 0);
  pass(milliseconds(1));
  ASSERT_EQ(first.size(), 1U);
  ASSERT_EQ(first[0].size(), 2U);
  EXPECT_EQ(first[0][0].pid, 100);
  EXPECT_TRUE(first[0][0].through_mirror);
  EXPECT_EQ(first[0][1].pid, 300);
  EXPECT_FALSE(first[0][1].through_mirror);
  // The holder does not stand in a reader's way, whoever came first does.
  ASSERT_EQ(second.size(), 1U);
  ASSERT_EQ(second[0].size(), 1U);
  EXPECT_EQ(second[0][0].pid, 200);
  pass(kLongWait * 2);
  EXPECT_EQ(first.size() + second.size(), 2U);
  EXPECT_EQ(foreign_.readings, 1);
  reader.reset();
  writer->hold.reset();
  behind->hold.reset();
}

TEST_F(LongWaitTest, WaitThatEndedIsNotTold) {
  Hold hold = hold_of(100, kExclusive);
  std::vector<std::vector<Blocker>> blockers;
  const auto told = park_of(200, kShared, blockers);
  hold.reset();
  pass(kLongWait * 2);
  EXPECT_TRUE(blockers.empty());
  EXPECT_EQ(room_->next_tick(), std::nullopt);
  told->hold.reset();
}

TEST_F(LongWaitTest, BlockersAreThoseOfTheMirror) {
  foreign_.locks = {{kFile, ForeignLockKind::kFlock, kShared, false, 300}};
  EXPECT_TRUE(room_->blockers(kFile, kExclusive).empty());
  Hold reader = hold_of(100, kShared);
  EXPECT_TRUE(room_->blockers(kFile, kShared).empty());
  ASSERT_EQ(room_->blockers(kFile, kExclusive).size(), 1U);
  EXPECT_EQ(room_->blockers(kFile, kExclusive)[0].pid, 100);
  std::vector<std::vector<Blocker>> unused;
  const auto writer = park_of(200, kExclusive, unused);
  ASSERT_EQ(room_->blockers(kFile, kShared).size(), 1U);  // to pass nobody
  EXPECT_EQ(room_->blockers(kFile, kShared)[0].pid, 200);
  reader.reset();
  writer->hold.reset();
}

}  // namespace
}  // namespace flockfs::test
