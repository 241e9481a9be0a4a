#include "tree/attribute_record.h"

#include <time.h>

#include <chrono>
#include <string>
#include <tuple>

#include "tree/temp_tree.h"

namespace flockfs {
namespace {

class AttributeRecordTest : public TempTree {
 protected:
  // Waits until the clock of stamps has passed this moment. Stamps may run ahead of it (multigrain timestamps,
  // Linux 6.13).
  static void next_stamp() {
    timespec start{};
    ::clock_gettime(CLOCK_REALTIME, &start);
    timespec now{};
    do {
      ::clock_gettime(CLOCK_REALTIME_COARSE, &now);
    } while (std::tie(now.tv_sec, now.tv_nsec) <= std::tie(start.tv_sec, start.tv_nsec));
  }

  struct stat stat_now(const InodePtr& inode) {
    return table_->look_at(inode->path_fd())->st;
  }

  void tell(const InodePtr& inode) {
    const auto before = record_.now();
    (void)record_.begin(*inode, before);
    record_.told(*inode, stat_now(inode));
  }

  AttributeRecord record_;
};

TEST_F(AttributeRecordTest, WhatWasNeverToldIsCurrent) {
  write("a", "x");
  const InodePtr inode = look("a").inode;
  EXPECT_TRUE(record_.current(*inode, stat_now(inode)));
}

TEST_F(AttributeRecordTest, AFileThatHasRestedSinceItWasToldIsCurrent) {
  write("a", "x");
  next_stamp();
  const InodePtr inode = look("a").inode;
  tell(inode);
  EXPECT_TRUE(record_.current(*inode, stat_now(inode)));
}

TEST_F(AttributeRecordTest, AChangeAfterTellingIsNoticedEvenWithinOneTickOfTheClock) {
  write("a", "x");
  next_stamp();
  const InodePtr inode = look("a").inode;
  tell(inode);
  write("a", "y");  // the same size, perhaps the same stamp
  EXPECT_FALSE(record_.current(*inode, stat_now(inode)));
}

TEST_F(AttributeRecordTest, AFreshFileIsNotTrustedUntilItsTickIsOver) {
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(20);
  for (unsigned n = 0;; ++n) {
    ASSERT_LT(std::chrono::steady_clock::now(), end) << "never told within the tick in which it was written";
    const std::string name = "a" + std::to_string(n);
    write(name, "x");
    const InodePtr inode = look(name).inode;
    tell(inode);
    const auto told = record_.now().stamp_ns;
    const struct stat st = stat_now(inode);
    if (told > st.st_ctim.tv_sec * 1'000'000'000 + st.st_ctim.tv_nsec) continue;  // this thread was held up
    EXPECT_FALSE(record_.current(*inode, st));
    break;
  }
}

TEST_F(AttributeRecordTest, ALaterAnswerDoesNotCoverUpAnEarlierOne) {
  write("a", "x");
  next_stamp();
  const InodePtr inode = look("a").inode;
  tell(inode);  // the kernel may keep this one
  write("a", "longer");
  next_stamp();
  tell(inode);  // and drop this one
  EXPECT_FALSE(record_.current(*inode, stat_now(inode)));
}

TEST_F(AttributeRecordTest, ResetForgetsWhatWasTold) {
  write("a", "x");
  const InodePtr inode = look("a").inode;
  tell(inode);
  record_.reset(*inode);
  EXPECT_TRUE(record_.current(*inode, stat_now(inode)));
}

TEST_F(AttributeRecordTest, AnOpenBetweenTheLookAndTheReplyAsksForAnotherLook) {
  write("a", "x");
  const InodePtr inode = look("a").inode;
  const auto before = record_.now();
  (void)record_.current(*inode, stat_now(inode));
  EXPECT_FALSE(record_.begin(*inode, before));
  EXPECT_TRUE(record_.begin(*inode, record_.now()));
}

}  // namespace
}  // namespace flockfs
