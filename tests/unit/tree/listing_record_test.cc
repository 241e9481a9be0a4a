#include "tree/listing_record.h"

#include <cstdint>
#include <filesystem>
#include <string>

#include "tree/temp_tree.h"
#include "tree/time_stamp.h"

namespace flockfs {
namespace {

using Answer = ListingRecord::Answer;

constexpr std::int64_t kSecond = 1'000'000'000;
constexpr std::int64_t kNow = 1'000 * kSecond;

class ListingRecordTest : public TempTree {
 protected:
  InodePtr directory(const std::string& name) {
    std::filesystem::create_directory(at(name));
    return look(name).inode;
  }
  static struct stat changed_at(std::int64_t ns) {
    struct stat st {};
    st.st_ctim = {ns / kSecond, ns % kSecond};
    return st;
  }
  static struct stat old() { return changed_at(kNow - 100 * kSecond); }

  ListingRecord record_;
};

TEST_F(ListingRecordTest, FirstOpenFillsAndLaterOnesKeep) {
  const InodePtr d = directory("d");
  EXPECT_EQ(record_.opened(*d, old(), kNow), Answer::kFill);
  record_.closed(*d);
  EXPECT_EQ(record_.opened(*d, old(), kNow + kSecond), Answer::kKeep);
  EXPECT_EQ(record_.opened(*d, old(), kNow + kSecond), Answer::kKeep) << "while it is open";
}

TEST_F(ListingRecordTest, AChangeIsSeenOnce) {
  const InodePtr d = directory("d");
  (void)record_.opened(*d, old(), kNow);
  record_.closed(*d);
  const struct stat st = changed_at(kNow + kSecond);
  EXPECT_EQ(record_.opened(*d, st, kNow + 10 * kSecond), Answer::kFill);
  record_.closed(*d);
  EXPECT_EQ(record_.opened(*d, st, kNow + 20 * kSecond), Answer::kKeep);
}

// Another change may follow with the same time.
TEST_F(ListingRecordTest, WhatHasJustChangedIsNotTrusted) {
  const InodePtr d = directory("d");
  const struct stat st = changed_at(kNow);
  EXPECT_EQ(record_.opened(*d, st, kNow + 3 * kSecond), Answer::kFill);
  record_.closed(*d);
  EXPECT_EQ(record_.opened(*d, st, kNow + 3 * kSecond), Answer::kFill);
  record_.closed(*d);
  EXPECT_EQ(record_.opened(*d, st, kNow + 5 * kSecond), Answer::kFill) << "what the kernel has may be from before";
  record_.closed(*d);
  EXPECT_EQ(record_.opened(*d, st, kNow + 5 * kSecond), Answer::kKeep);
}

TEST_F(ListingRecordTest, AClockThatWasSetBackHidesNoChange) {
  const InodePtr d = directory("d");
  (void)record_.opened(*d, old(), kNow);
  record_.closed(*d);
  EXPECT_EQ(record_.opened(*d, changed_at(kNow - 50 * kSecond), kNow - 49 * kSecond), Answer::kFill);
}

// A reader that had it open before the change may still add to the cache what it was told before.
TEST_F(ListingRecordTest, AChangeWhileItIsOpenLeavesDoubtUntilItIsClosed) {
  const InodePtr d = directory("d");
  (void)record_.opened(*d, old(), kNow);
  const struct stat st = changed_at(kNow + kSecond);
  EXPECT_EQ(record_.opened(*d, st, kNow + 10 * kSecond), Answer::kFill);
  EXPECT_EQ(record_.opened(*d, st, kNow + 20 * kSecond), Answer::kFill);
  record_.closed(*d);
  record_.closed(*d);
  EXPECT_EQ(record_.opened(*d, st, kNow + 30 * kSecond), Answer::kFill) << "one is left";
  record_.closed(*d);
  record_.closed(*d);
  EXPECT_EQ(record_.opened(*d, st, kNow + 40 * kSecond), Answer::kFill);
  record_.closed(*d);
  EXPECT_EQ(record_.opened(*d, st, kNow + 50 * kSecond), Answer::kKeep);
}

TEST_F(ListingRecordTest, NoMoreThanSoManyAndNeverOneThatIsOpen) {
  ListingRecord two(2);
  const InodePtr a = directory("a");
  const InodePtr b = directory("b");
  const InodePtr c = directory("c");
  (void)two.opened(*a, old(), kNow);
  (void)two.opened(*b, old(), kNow);
  EXPECT_EQ(two.opened(*c, old(), kNow), Answer::kDrop);
  two.closed(*b);
  EXPECT_EQ(two.opened(*c, old(), kNow), Answer::kFill);
  EXPECT_EQ(two.opened(*a, old(), kNow), Answer::kKeep);
  EXPECT_EQ(two.opened(*b, old(), kNow), Answer::kDrop);
}

}  // namespace
}  // namespace flockfs
