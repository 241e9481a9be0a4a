#include "lock/foreign_locks.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <string>
#include <thread>
#include <vector>

#include "base/unique_fd.h"

namespace flockfs {
namespace {

TEST(ForeignLocksTest, HolderIsParsed) {
  const auto lock = parse_lock_line("1: FLOCK  ADVISORY  WRITE 5998 fe:00:10952826 0 EOF");
  ASSERT_TRUE(lock.has_value());
  EXPECT_EQ(lock->file, (FileId{makedev(0xfe, 0), 10952826}));
  EXPECT_EQ(lock->kind, ForeignLockKind::kFlock);
  EXPECT_EQ(lock->mode, LockMode::kExclusive);
  EXPECT_FALSE(lock->waits);
  EXPECT_EQ(lock->pid, 5998);
}

TEST(ForeignLocksTest, WaiterIsParsedHoweverDeepItStands) {
  for (const char* line :
       {"12: -> FLOCK  ADVISORY  READ  7 08:1a3:5 0 EOF", "12:    -> FLOCK  ADVISORY  READ  7 08:1a3:5 0 EOF"}) {
    const auto lock = parse_lock_line(line);
    ASSERT_TRUE(lock.has_value()) << line;
    EXPECT_TRUE(lock->waits);
    EXPECT_EQ(lock->mode, LockMode::kShared);
    EXPECT_EQ(lock->file, (FileId{makedev(8, 0x1a3), 5}));
  }
}

TEST(ForeignLocksTest, RecordLocksAreToldApart) {
  EXPECT_EQ(parse_lock_line("3: POSIX  ADVISORY  READ 3 00:1b:9 128 128")->kind, ForeignLockKind::kPosix);
  const auto ofd = parse_lock_line("3: OFDLCK ADVISORY  WRITE -1 00:1b:9 0 EOF");
  EXPECT_EQ(ofd->kind, ForeignLockKind::kOfd);
  EXPECT_EQ(ofd->pid, -1);
}

TEST(ForeignLocksTest, OddLinesAreSkipped) {
  for (const char* line :
       {"", " ", "1:", ":", "x: FLOCK ADVISORY WRITE 1 1:1:1 0 EOF", "1: LEASE  ACTIVE    READ  5 fe:00:1 0 EOF",
        "1: FLOCK ADVISORY NONE 1 1:1:1 0 EOF", "1: FLOCK ADVISORY WRITE 1 <none>:0 0 EOF",
        "1: FLOCK ADVISORY WRITE 99999999999 1:1:1 0 EOF", "1: FLOCK ADVISORY WRITE 1 1:1:1x 0 EOF",
        "1: FLOCK ADVISORY WRITE 1 1:1: 0 EOF", "1: FLOCK ADVISORY WRITE 1 :1:1 0 EOF", "1: FLOCK ADVISORY WRITE",
        "1: UNKNOWN UNKNOWN  READ 1 1:1:1 0 EOF", "1: -> -> FLOCK ADVISORY WRITE 1 1:1:1 0 EOF", "-> FLOCK",
        "18446744073709551616: FLOCK ADVISORY WRITE 1 1:1:1 0 EOF"}) {
    EXPECT_FALSE(parse_lock_line(line).has_value()) << line;
  }
}

TEST(ForeignLocksTest, EveryCutOfALineIsSafe) {
  const std::string line = "1: -> FLOCK  ADVISORY  WRITE 5998 fe:00:10952826 0 EOF";
  for (std::size_t i = 0; i < line.size(); ++i) {
    (void)parse_lock_line(std::string_view(line).substr(0, i));
    (void)parse_lock_line(std::string_view(line).substr(i));
  }
}

class ForeignLocksFileTest : public ::testing::Test {
 protected:
  ForeignLocksFileTest() {
    struct stat status {};
    fstat(fd_.get(), &status);
    file_ = {status.st_dev, status.st_ino};
  }
  ~ForeignLocksFileTest() override { unlink(path_.c_str()); }

  std::vector<ForeignLock> of_the_file() {
    std::vector<ForeignLock> found;
    EXPECT_TRUE(locks_.for_each([&](const ForeignLock& lock) {
      if (lock.file.ino == file_.ino) found.push_back(lock);
    }));
    return found;
  }

  std::string path_ = testing::TempDir() + "/foreign_locks_test." + std::to_string(getpid());
  UniqueFd fd_{open(path_.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600)};
  FileId file_;
  ProcForeignLocks locks_;
};

TEST_F(ForeignLocksFileTest, OurOwnLocksAreNotForeign) {
  ASSERT_EQ(flock(fd_.get(), LOCK_EX), 0);
  EXPECT_TRUE(of_the_file().empty());
}

TEST_F(ForeignLocksFileTest, OurOwnLockTellsTheFilesName) {
  EXPECT_EQ(locks_.listed_as(fd_.get()), std::nullopt) << "nothing is held";
  ASSERT_EQ(flock(fd_.get(), LOCK_SH), 0);
  const auto listed = locks_.listed_as(fd_.get());
  ASSERT_TRUE(listed.has_value());
  EXPECT_EQ(listed->ino, file_.ino);
  EXPECT_EQ(locks_.listed_as(-1), std::nullopt);
}

TEST_F(ForeignLocksFileTest, WaiterOutsideIsSeen) {
  ASSERT_EQ(flock(fd_.get(), LOCK_SH), 0);
  const pid_t child = fork();
  if (child == 0) {
    const int own = open(path_.c_str(), O_RDWR | O_CLOEXEC);
    flock(own, LOCK_EX);
    _exit(0);
  }
  std::vector<ForeignLock> found;
  for (int i = 0; i < 1000 && found.empty(); ++i) {
    found = of_the_file();
    if (found.empty()) std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  kill(child, SIGKILL);
  waitpid(child, nullptr, 0);
  ASSERT_FALSE(found.empty());
  // The kernel shows a line twice if others come and go while the list is read.
  for (const ForeignLock& lock : found) {
    EXPECT_EQ(lock.pid, child);
    EXPECT_TRUE(lock.waits);
    EXPECT_EQ(lock.mode, LockMode::kExclusive);
    EXPECT_EQ(locks_.listed_as(fd_.get()), lock.file);
  }
}

}  // namespace
}  // namespace flockfs
