// The kernel's own locks: what each lock= takes, and how a lock of two parts is taken.

#include "lock/file_locker.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/file.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <string>
#include <thread>
#include <vector>

#include "lock/lock_fakes.h"

namespace flockfs::test {
namespace {

constexpr LockMode kShared = LockMode::kShared;
constexpr LockMode kExclusive = LockMode::kExclusive;

class FileLockerTest : public ::testing::Test {
 protected:
  FileLockerTest() { UniqueFd(::mkostemp(path_.data(), O_CLOEXEC)).reset(); }
  ~FileLockerTest() override { ::unlink(path_.c_str()); }

  // A new open file description each time.
  [[nodiscard]] UniqueFd open_file(int flags = O_RDWR) const {
    UniqueFd fd(::open(path_.c_str(), flags | O_CLOEXEC));
    EXPECT_TRUE(fd.valid());
    return fd;
  }
  // Whether somebody else could take such a lock now.
  [[nodiscard]] bool flock_is_free(int operation) const { return ::flock(open_file().get(), operation | LOCK_NB) == 0; }
  [[nodiscard]] bool record_is_free(short type) const {
    struct flock whole {};
    whole.l_type = type;
    const UniqueFd fd = open_file();
    EXPECT_EQ(::fcntl(fd.get(), F_OFD_GETLK, &whole), 0);
    return whole.l_type == F_UNLCK;
  }

 private:
  std::string path_ = "/tmp/flockfs-locker-XXXXXX";
};

TEST_F(FileLockerTest, FlockIsAFlock) {
  FlockLocker locker;
  const UniqueFd fd = open_file(O_RDONLY);
  ASSERT_EQ(locker.try_lock(fd.get(), kShared), 0);
  EXPECT_TRUE(flock_is_free(LOCK_SH));
  EXPECT_FALSE(flock_is_free(LOCK_EX));
  EXPECT_TRUE(record_is_free(F_WRLCK));
  EXPECT_EQ(locker.unlock(fd.get()), 0);
  EXPECT_TRUE(flock_is_free(LOCK_EX));
}

TEST_F(FileLockerTest, OfdIsARecordLockOverTheWholeFile) {
  OfdLocker locker;
  const UniqueFd reader = open_file(O_RDONLY);
  ASSERT_EQ(locker.try_lock(reader.get(), kShared), 0);
  EXPECT_TRUE(record_is_free(F_RDLCK));
  EXPECT_FALSE(record_is_free(F_WRLCK));
  EXPECT_TRUE(flock_is_free(LOCK_EX));
  const UniqueFd writer = open_file(O_WRONLY);
  EXPECT_EQ(locker.try_lock(writer.get(), kExclusive), EWOULDBLOCK);
  EXPECT_EQ(locker.unlock(reader.get()), 0);
  ASSERT_EQ(locker.try_lock(writer.get(), kExclusive), 0);
  EXPECT_FALSE(record_is_free(F_RDLCK));
  EXPECT_EQ(::ftruncate(writer.get(), 1 << 20), 0);
  struct flock far_away {};
  far_away.l_type = F_RDLCK;
  far_away.l_start = 1 << 30;
  far_away.l_len = 1;
  EXPECT_EQ(::fcntl(open_file().get(), F_OFD_GETLK, &far_away), 0);
  EXPECT_EQ(far_away.l_type, F_WRLCK);
  EXPECT_EQ(locker.unlock(writer.get()), 0);
  EXPECT_TRUE(record_is_free(F_WRLCK));
}

TEST_F(FileLockerTest, PairIsBothOrNone) {
  const auto pair = make_file_locker(LockKind::kFlockAndOfd);
  const UniqueFd fd = open_file();
  ASSERT_EQ(pair->try_lock(fd.get(), kExclusive), 0);
  EXPECT_FALSE(flock_is_free(LOCK_SH));
  EXPECT_FALSE(record_is_free(F_RDLCK));
  EXPECT_EQ(pair->unlock(fd.get()), 0);
  EXPECT_TRUE(flock_is_free(LOCK_EX));
  EXPECT_TRUE(record_is_free(F_WRLCK));

  FlockLocker flocks;
  OfdLocker records;
  const UniqueFd other = open_file();
  ASSERT_EQ(records.try_lock(other.get(), kShared), 0);
  EXPECT_EQ(pair->try_lock(fd.get(), kExclusive), EWOULDBLOCK);
  EXPECT_TRUE(flock_is_free(LOCK_EX));
  EXPECT_EQ(pair->try_lock(fd.get(), kShared), 0);
  EXPECT_EQ(pair->unlock(fd.get()), 0);
  EXPECT_EQ(records.unlock(other.get()), 0);
  ASSERT_EQ(flocks.try_lock(other.get(), kShared), 0);
  EXPECT_EQ(pair->try_lock(fd.get(), kExclusive), EWOULDBLOCK);
  EXPECT_TRUE(record_is_free(F_WRLCK));
  EXPECT_EQ(flocks.unlock(other.get()), 0);
}

// Whichever part is taken by somebody else, the other one stays free meanwhile.
TEST_F(FileLockerTest, PairThatWaitsForOnePartKeepsNobodyFromTheOther) {
  FlockLocker flocks;
  OfdLocker records;
  for (FileLocker* taken : std::initializer_list<FileLocker*>{&flocks, &records}) {
    const auto pair = make_file_locker(LockKind::kFlockAndOfd);
    const UniqueFd other = open_file();
    ASSERT_EQ(taken->try_lock(other.get(), kExclusive), 0);
    const UniqueFd fd = open_file();
    std::atomic<bool> done{false};
    std::thread waiter([&] {
      EXPECT_EQ(pair->wait_lock(fd.get(), kExclusive), 0);
      done = true;
    });
    for (int look = 0; look < 50; ++look) {
      if (taken == &flocks) {
        EXPECT_TRUE(record_is_free(F_WRLCK));
      } else {
        EXPECT_TRUE(eventually([&] { return flock_is_free(LOCK_EX); }));
      }
      std::this_thread::sleep_for(milliseconds(1));  // time for it to go wrong
    }
    EXPECT_FALSE(done);
    EXPECT_EQ(taken->unlock(other.get()), 0);
    EXPECT_TRUE(eventually([&] { return done.load(); }));
    waiter.join();
    EXPECT_FALSE(flock_is_free(LOCK_SH));
    EXPECT_FALSE(record_is_free(F_RDLCK));
    EXPECT_EQ(pair->unlock(fd.get()), 0);
  }
}

// Many who want both, and others who want one or both in the other order: all get on, and never two at a time.
TEST_F(FileLockerTest, PairsExcludeOneAnotherAndGetOn) {
  constexpr int kRounds = 300;
  std::atomic<int> inside{0};
  std::atomic<int> together{0};
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&] {
      const auto pair = make_file_locker(LockKind::kFlockAndOfd);
      const UniqueFd fd = open_file();
      for (int round = 0; round < kRounds; ++round) {
        ASSERT_EQ(pair->wait_lock(fd.get(), kExclusive), 0);
        if (++inside != 1) ++together;
        std::this_thread::yield();
        --inside;
        ASSERT_EQ(pair->unlock(fd.get()), 0);
      }
    });
  }
  threads.emplace_back([&] {
    FlockLocker flocks;
    OfdLocker records;
    const UniqueFd fd = open_file();
    for (int round = 0; round < kRounds; ++round) {
      ASSERT_EQ(records.wait_lock(fd.get(), kExclusive), 0);
      ASSERT_EQ(flocks.wait_lock(fd.get(), kExclusive), 0);
      if (++inside != 1) ++together;
      --inside;
      ASSERT_EQ(flocks.unlock(fd.get()), 0);
      ASSERT_EQ(records.unlock(fd.get()), 0);
    }
  });
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(together, 0);
}

TEST_F(FileLockerTest, MindsWhatExcludesIt) {
  const auto minds = [](LockKind kind) {
    const auto locker = make_file_locker(kind);
    return std::vector<bool>{locker->minds(ForeignLockKind::kFlock), locker->minds(ForeignLockKind::kPosix),
                             locker->minds(ForeignLockKind::kOfd)};
  };
  EXPECT_EQ(minds(LockKind::kFlock), (std::vector<bool>{true, false, false}));
  EXPECT_EQ(minds(LockKind::kOfd), (std::vector<bool>{false, true, true}));
  EXPECT_EQ(minds(LockKind::kFlockAndOfd), (std::vector<bool>{true, true, true}));
}

}  // namespace
}  // namespace flockfs::test
