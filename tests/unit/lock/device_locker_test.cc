// One locker here, another there: how lock=flock+ofd does with flock alone where that stands for both.

#include "lock/device_locker.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <string>

#include "lock/lock_fakes.h"

namespace flockfs::test {
namespace {

constexpr LockMode kExclusive = LockMode::kExclusive;

dev_t device_of(const UniqueFd& fd) {
  struct stat st {};
  EXPECT_EQ(::fstat(fd.get(), &st), 0);
  return st.st_dev;
}

class DeviceLockerTest : public ::testing::Test {
 protected:
  DeviceLockerTest() : here_(::mkostemp(path_.data(), O_CLOEXEC)), again_(::open(path_.c_str(), O_RDWR | O_CLOEXEC)) {
    EXPECT_NE(device_of(here_), device_of(elsewhere_));
  }
  ~DeviceLockerTest() override { ::unlink(path_.c_str()); }

  std::string path_ = "/tmp/flockfs-device-XXXXXX";
  const UniqueFd here_;
  const UniqueFd again_;  // the same file, another open file description
  const UniqueFd elsewhere_ = some_fd();
};

TEST_F(DeviceLockerTest, OnlyNamedDevicesAreTheOthers) {
  auto usual = std::make_unique<FakeLocker>();
  auto other = std::make_unique<FakeLocker>();
  FakeLocker& both = *usual;
  FakeLocker& alone = *other;
  DeviceLocker locker(std::move(usual), std::move(other));
  ASSERT_EQ(locker.try_lock(here_.get(), kExclusive), 0);
  EXPECT_EQ(both.held(), 1U);
  EXPECT_EQ(locker.unlock(here_.get()), 0);

  EXPECT_TRUE(locker.use_other(device_of(here_)));
  EXPECT_FALSE(locker.use_other(device_of(here_)));
  ASSERT_EQ(locker.try_lock(here_.get(), kExclusive), 0);
  ASSERT_EQ(locker.wait_lock(elsewhere_.get(), kExclusive), 0);
  EXPECT_EQ(alone.order, std::vector<int>{here_.get()});
  EXPECT_EQ(both.order.back(), elsewhere_.get());
  EXPECT_EQ(locker.unlock(here_.get()), 0);
  EXPECT_EQ(alone.held(), 0U);
  EXPECT_EQ(both.held(), 1U);
  EXPECT_EQ(locker.unlock(elsewhere_.get()), 0);
}

TEST_F(DeviceLockerTest, MindsWhatEitherMinds) {
  const DeviceLocker locker(make_file_locker(LockKind::kFlockAndOfd), make_file_locker(LockKind::kFlock));
  for (const auto kind : {ForeignLockKind::kFlock, ForeignLockKind::kPosix, ForeignLockKind::kOfd}) {
    EXPECT_TRUE(locker.minds(kind));
  }
}

TEST_F(DeviceLockerTest, OneLockUnderTwoNamesExcludesItself) {
  FakeLocker one;
  FakeLocker other;
  EXPECT_TRUE(exclude_each_other(one, here_.get(), one, again_.get()));
  EXPECT_FALSE(exclude_each_other(one, here_.get(), other, again_.get()));
  EXPECT_EQ(one.held() + other.held(), 0U);
  // Where one kind does not exist, it excludes nobody: that is another question's answer.
  other.fail_with(ENOLCK);
  EXPECT_FALSE(exclude_each_other(one, here_.get(), other, again_.get()));
  EXPECT_FALSE(exclude_each_other(other, here_.get(), one, again_.get()));
  EXPECT_EQ(one.held(), 0U);
}

TEST_F(DeviceLockerTest, FlockAndRecordLocksOfALocalFileDoNot) {
  FlockLocker flocks;
  OfdLocker records;
  EXPECT_FALSE(exclude_each_other(flocks, here_.get(), records, again_.get()));
  EXPECT_TRUE(exclude_each_other(records, here_.get(), records, again_.get()));
  EXPECT_EQ(flocks.try_lock(again_.get(), kExclusive), 0);
  EXPECT_EQ(records.try_lock(again_.get(), kExclusive), 0);
}

}  // namespace
}  // namespace flockfs::test
