#include "lock/lock_mode.h"

#include <fcntl.h>
#include <gtest/gtest.h>

namespace flockfs {
namespace {

TEST(LockModeTest, ReadingIsShared) {
  EXPECT_EQ(lock_mode_for_open(O_RDONLY), LockMode::kShared);
  EXPECT_EQ(lock_mode_for_open(O_RDONLY | O_NONBLOCK | O_CLOEXEC | O_NOATIME), LockMode::kShared);
}

TEST(LockModeTest, WritingIsExclusive) {
  EXPECT_EQ(lock_mode_for_open(O_WRONLY), LockMode::kExclusive);
  EXPECT_EQ(lock_mode_for_open(O_RDWR), LockMode::kExclusive);
  EXPECT_EQ(lock_mode_for_open(O_WRONLY | O_APPEND | O_TRUNC), LockMode::kExclusive);
}

TEST(LockModeTest, AccessModeThreeIsExclusive) { EXPECT_EQ(lock_mode_for_open(O_ACCMODE), LockMode::kExclusive); }

TEST(LockModeTest, CreatingForReadingIsShared) { EXPECT_EQ(lock_mode_for_open(O_RDONLY | O_CREAT), LockMode::kShared); }

}  // namespace
}  // namespace flockfs
