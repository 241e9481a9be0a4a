#include "run/wait_board.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <chrono>
#include <optional>

namespace flockfs {
namespace {

using std::chrono::seconds;

constexpr pid_t kMirror = 999999;

// A list of locks that a test writes.
class FakeLocks final : public ForeignLocks {
 public:
  bool for_each(const std::function<void(const ForeignLock&)>& visit) override {
    for (const ForeignLock& lock : locks) visit(lock);
    return true;
  }
  std::optional<FileId> listed_as(int /*fd*/) override { return std::nullopt; }

  std::vector<ForeignLock> locks;
};

WaitSeen wait_for(const std::string& path, std::uint64_t number, FileId file = {1, 2}) {
  WaitSeen wait;
  wait.number = number;
  wait.path = path;
  wait.file = file;
  return wait;
}

ForeignLock lock_of(pid_t pid, FileId file, LockMode mode = LockMode::kExclusive) {
  return {file, ForeignLockKind::kFlock, mode, false, pid};
}

TEST(WaitBoardTest, TheOldestWaitIsTheOneToShow) {
  WaitBoard board;
  EXPECT_EQ(board.oldest(), nullptr);
  board.began(0, wait_for("/second", 1), TimePoint(seconds(2)));
  board.began(1, wait_for("/first", 1), TimePoint(seconds(1)));
  EXPECT_EQ(board.waiting(), 2u);
  EXPECT_EQ(board.oldest()->path, "/first");
  board.ended(1, 1, seconds(5));
  EXPECT_EQ(board.oldest()->path, "/second");
}

TEST(WaitBoardTest, TheLongestWaitIsRemembered) {
  WaitBoard board;
  for (const auto& [number, lasted] : std::vector<std::pair<std::uint64_t, int>>{{1, 3}, {2, 7}, {3, 5}}) {
    board.began(0, wait_for("/f" + std::to_string(number), number), TimePoint(seconds(0)));
    board.ended(0, number, seconds(lasted));
  }
  ASSERT_TRUE(board.longest());
  EXPECT_EQ(board.longest()->path, "/f2");
  EXPECT_EQ(board.longest()->waited, seconds(7));
  EXPECT_EQ(board.waiting(), 0u);
}

TEST(WaitBoardTest, EndWithoutABeginningIsNothing) {
  WaitBoard board;
  board.ended(0, 1, seconds(1));
  EXPECT_FALSE(board.longest());
}

TEST(WaitBoardTest, HolderIsWhoeverIsInTheWayAndNoMirror) {
  WaitBoard board;
  board.began(0, wait_for("/f", 1, {1, 2}), TimePoint());
  FakeLocks locks;
  locks.locks = {lock_of(kMirror, {1, 2}), lock_of(1, {1, 3}), lock_of(2, {1, 2}, LockMode::kShared),
                 lock_of(::getpid(), {1, 2})};
  board.look(locks, {kMirror});
  EXPECT_EQ(board.oldest()->holder, describe_process(::getpid()));
  board.ended(0, 1, seconds(1));
  EXPECT_EQ(board.longest()->holder, describe_process(::getpid()));
}

// btrfs shows another device in the list than stat(2) does.
TEST(WaitBoardTest, TheInodeAloneWillDoWhereNoDeviceAgrees) {
  WaitBoard board;
  board.began(0, wait_for("/f", 1, {1, 2}), TimePoint());
  FakeLocks locks;
  locks.locks = {lock_of(::getpid(), {7, 2})};
  board.look(locks, {});
  EXPECT_EQ(board.oldest()->holder, describe_process(::getpid()));
  locks.locks = {lock_of(1, {7, 2}), lock_of(::getpid(), {1, 2}), lock_of(1, {8, 2})};
  board.look(locks, {});
  EXPECT_EQ(board.oldest()->holder, describe_process(::getpid()));
}

TEST(WaitBoardTest, WaitsOfAMirrorThatHasDiedAreOver) {
  WaitBoard board;
  board.began(0, wait_for("/f", 1), TimePoint());
  board.began(1, wait_for("/g", 1), TimePoint(seconds(1)));
  board.forget(0);
  EXPECT_EQ(board.waiting(), 1u);
  EXPECT_EQ(board.oldest()->path, "/g");
}

}  // namespace
}  // namespace flockfs
