#include "mirror/retries.h"

#include <chrono>
#include <optional>
#include <thread>
#include <utility>

#include "eventually.h"
#include "tree/temp_tree.h"

namespace flockfs {
namespace {

constexpr pid_t kThread = 100;
constexpr pid_t kOther = 101;

class RetriesTest : public TempTree {
 protected:
  void TearDown() override {
    kept_.reset();  // the inodes in it end before their table
    TempTree::TearDown();
  }

  std::optional<Retries> kept_{std::in_place};
  Retries& retries_ = *kept_;
};

TEST_F(RetriesTest, TheSecondTryIsKnownByItsName) {
  write("a", "x");
  const InodePtr old = look("a").inode;
  retries_.remember(kThread, old, table_->names(*old));
  write("b", "y");
  ASSERT_EQ(::rename(at("b").c_str(), at("a").c_str()), 0);
  const InodePtr fresh = look("a").inode;
  ASSERT_NE(fresh, old);
  EXPECT_TRUE(retries_.take(kThread, fresh.get(), table_->names(*fresh), LockMode::kShared));
}

TEST_F(RetriesTest, ItIsKnownOnce) {
  write("a", "x");
  const InodePtr inode = look("a").inode;
  retries_.remember(kThread, inode, table_->names(*inode));
  EXPECT_TRUE(retries_.take(kThread, inode.get(), table_->names(*inode), LockMode::kShared));
  EXPECT_FALSE(retries_.take(kThread, inode.get(), table_->names(*inode), LockMode::kShared));
}

TEST_F(RetriesTest, AnotherThreadsFirstTryIsNone) {
  write("a", "x");
  const InodePtr inode = look("a").inode;
  retries_.remember(kThread, inode, table_->names(*inode));
  EXPECT_FALSE(retries_.take(kOther, inode.get(), table_->names(*inode), LockMode::kShared));
}

TEST_F(RetriesTest, TheSameThreadsNextFileIsNone) {
  write("a", "x");
  write("b", "x");
  const InodePtr inode = look("a").inode;
  const InodePtr next = look("b").inode;
  retries_.remember(kThread, inode, table_->names(*inode));
  EXPECT_FALSE(retries_.take(kThread, next.get(), table_->names(*next), LockMode::kShared));
}

TEST_F(RetriesTest, AWriterIsNotServedByAnotherCallsTry) {
  write("a", "x");
  const InodePtr inode = look("a").inode;
  retries_.remember(kThread, inode, table_->names(*inode), Retries::First::kAttributes);
  std::this_thread::sleep_for(std::chrono::milliseconds(6));  // the time is what is tested
  EXPECT_FALSE(retries_.take(kThread, inode.get(), table_->names(*inode), LockMode::kExclusive));
  retries_.remember(kThread, inode, table_->names(*inode), Retries::First::kAttributes);
  EXPECT_TRUE(retries_.take(kThread, inode.get(), table_->names(*inode), LockMode::kShared));
}

// On a busy machine a thread of the kernel's waits for a processor between the two.
TEST_F(RetriesTest, AWriterIsServedSoonAfterTheLookupInBetween) {
  write("a", "x");
  const InodePtr inode = look("a").inode;
  const auto served_after = [&](std::chrono::milliseconds wait) {
    retries_.remember(kThread, inode, table_->names(*inode), Retries::First::kAttributes);
    EXPECT_TRUE(retries_.awaited(kThread, table_->root(), "a"));
    std::this_thread::sleep_for(wait);  // the time is what is tested
    return retries_.take(kThread, inode.get(), table_->names(*inode), LockMode::kExclusive).has_value();
  };
  // A busy machine may sleep longer.
  EXPECT_TRUE(eventually([&] { return served_after(std::chrono::milliseconds(20)); }));
  EXPECT_FALSE(served_after(std::chrono::milliseconds(120)));
}

TEST_F(RetriesTest, WhatTheLookupInBetweenFoundStaysOpenable) {
  write("a", "x");
  const InodePtr old = look("a").inode;
  retries_.remember(kThread, old, table_->names(*old));
  ASSERT_EQ(::unlink(at("a").c_str()), 0);
  write("a", "second");
  EXPECT_TRUE(retries_.awaited(kThread, table_->root(), "a"));
  EXPECT_FALSE(retries_.awaited(kThread, table_->root(), "b"));
  EXPECT_FALSE(retries_.awaited(kOther, table_->root(), "a"));
  UniqueFd keep;
  auto second = table_->lookup(table_->root(), "a", &keep);
  ASSERT_TRUE(second.ok());
  retries_.keep(kThread, std::move(keep));
  ASSERT_EQ(::unlink(at("a").c_str()), 0);  // replaced once more before the second try
  EXPECT_TRUE(second->inode->open(O_RDONLY).ok());
}

TEST_F(RetriesTest, AfterLookupsThatFindNothingOnlyCreateIsASecondTry) {
  write("a", "x");
  const InodePtr inode = look("a").inode;
  retries_.remember(kThread, inode, table_->names(*inode));
  EXPECT_TRUE(retries_.awaited(kThread, table_->root(), "a"));
  retries_.found_nothing(kThread);
  retries_.found_nothing(kThread);
  EXPECT_TRUE(retries_.take_name(kThread, table_->root(), "a"));
  retries_.remember(kThread, inode, table_->names(*inode));
  retries_.found_nothing(kThread);
  retries_.found_nothing(kThread);
  EXPECT_FALSE(retries_.take(kThread, inode.get(), table_->names(*inode), LockMode::kShared));
}

// The kernel looked for what it had, and then for what is there.
TEST_F(RetriesTest, ALookupThatFindsAfterOneThatDidNotLeadsToTheSecondTry) {
  write("a", "x");
  const InodePtr inode = look("a").inode;
  retries_.remember(kThread, inode, table_->names(*inode));
  EXPECT_TRUE(retries_.awaited(kThread, table_->root(), "a"));
  retries_.found_nothing(kThread);
  std::this_thread::sleep_for(std::chrono::milliseconds(250));  // a busy machine; the time is what is tested
  EXPECT_TRUE(retries_.awaited(kThread, table_->root(), "a"));
  UniqueFd keep;
  ASSERT_TRUE(table_->lookup(table_->root(), "a", &keep).ok());
  retries_.keep(kThread, std::move(keep));
  EXPECT_TRUE(retries_.take(kThread, inode.get(), table_->names(*inode), LockMode::kExclusive));
}

// It has the file from another thread's lookup: after its own, which found nothing, it was answered.
TEST_F(RetriesTest, AnOpenWithoutALookupAfterOneThatFoundNothingIsAnotherCalls) {
  write("a", "x");
  const InodePtr inode = look("a").inode;
  retries_.remember(kThread, inode, table_->names(*inode));
  EXPECT_TRUE(retries_.awaited(kThread, table_->root(), "a"));
  retries_.found_nothing(kThread);
  EXPECT_FALSE(retries_.take(kThread, inode.get(), table_->names(*inode), LockMode::kExclusive));
}

}  // namespace
}  // namespace flockfs
