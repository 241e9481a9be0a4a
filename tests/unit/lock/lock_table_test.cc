#include "lock/lock_table.h"

#include <gtest/gtest.h>

#include <chrono>

namespace flockfs {
namespace {

using std::chrono::milliseconds;

constexpr LockMode kShared = LockMode::kShared;
constexpr LockMode kExclusive = LockMode::kExclusive;
constexpr TimePoint kNow{std::chrono::hours(1)};

Holder holder(LockId id, LockMode mode) {
  Holder made;
  made.id = made.first.id = id;
  made.mode = made.opened = mode;
  made.since = kNow;
  made.fd = 3;
  return made;
}

TEST(LockRecordTest, TentativeHolderCountsAsHeld) {
  LockRecord record;
  EXPECT_TRUE(record.idle());
  Holder asking = holder(1, kExclusive);
  asking.state = Holder::State::kAsked;
  record.add_holder(asking);
  EXPECT_FALSE(record.compatible(kShared));
  EXPECT_FALSE(record.idle());
  EXPECT_EQ(record.oldest_holder(), nullptr) << "not confirmed yet";
  record.confirm_holder(1, kNow);
  EXPECT_EQ(record.oldest_holder()->id, 1U);
  record.remove_holder(1);
  EXPECT_TRUE(record.idle());
}

TEST(LockRecordTest, OldestHolderIsTheFirstThatStillHolds) {
  LockRecord record;
  for (LockId id = 1; id <= 4; ++id) record.add_holder(holder(id, kShared));
  record.remove_holder(1);
  EXPECT_EQ(record.oldest_holder()->id, 2U);
  record.remove_holder(3);
  EXPECT_EQ(record.oldest_holder()->id, 2U);
  record.remove_holder(2);
  EXPECT_EQ(record.oldest_holder()->id, 4U);
  EXPECT_TRUE(record.holds(4));
  EXPECT_FALSE(record.holds(2));
}

TEST(LockRecordTest, RemovingAStrangerChangesNothing) {
  LockRecord record;
  record.add_holder(holder(1, kExclusive));
  record.remove_holder(2);
  EXPECT_FALSE(record.compatible(kShared));
}

TEST(LockRecordTest, OnlyTheHeadIsGrantable) {
  LockRecord record;
  record.add_holder(holder(1, kShared));
  const auto writer = record.enqueue({.wait_id = 2, .mode = kExclusive});
  record.enqueue({.wait_id = 3, .mode = kShared});
  EXPECT_EQ(record.grantable(), nullptr);
  EXPECT_FALSE(record.admits(kShared)) << "a reader does not pass the waiting writer";
  record.dequeue(writer);
  ASSERT_NE(record.grantable(), nullptr);
  EXPECT_EQ(record.grantable()->wait_id, 3U);
}

TEST(LockRecordTest, NobodyIsAdmittedWhileAThreadAsksForTheQueue) {
  LockRecord record;
  record.worker = LockRecord::Worker::kBlocked;
  EXPECT_FALSE(record.admits(kShared));
  EXPECT_FALSE(record.idle());
}

TEST(LockTableTest, RecordsComeAndGo) {
  LockTable table;
  const FileId file{1, 2};
  EXPECT_EQ(table.find(file), nullptr);
  LockRecord& record = table.find_or_add(file, kNow);
  EXPECT_EQ(table.find(file), &record);
  record.add_holder(holder(1, kShared));
  table.drop_if_idle(file, kNow);
  EXPECT_EQ(table.find(file), &record) << "it is held";
  record.remove_holder(1);
  table.drop_if_idle(file, kNow);
  EXPECT_EQ(table.find(file), nullptr);
  EXPECT_EQ(table.size(), 0U);
}

TEST(LockTableTest, RecycledRecordRemembersNothing) {
  LockTable table;
  LockRecord& first = table.find_or_add({1, 2}, kNow);
  first.poll_at = kNow;
  first.check_requested();
  table.drop_if_idle({1, 2}, kNow);
  const TimePoint later = kNow + milliseconds(100);
  LockRecord& second = table.find_or_add({1, 3}, later);
  EXPECT_EQ(&first, &second);
  EXPECT_FALSE(second.poll_at.has_value());
  EXPECT_FALSE(second.wants_check(later, table.times));
  EXPECT_TRUE(second.wants_check(later + milliseconds(201), table.times));
  EXPECT_TRUE(second.admits(kExclusive));
}

TEST(LockTableTest, AddressesAreStable) {
  LockTable table;
  LockRecord* first = &table.find_or_add({1, 0}, kNow);
  first->add_holder(holder(1, kShared));
  for (ino_t ino = 1; ino < 10000; ++ino) table.find_or_add({1, ino}, kNow).add_holder(holder(1, kShared));
  EXPECT_EQ(table.find({1, 0}), first);
}

}  // namespace
}  // namespace flockfs
