#include "tree/make.h"

#include <sched.h>
#include <sys/syscall.h>

#include <thread>

#include "tree/temp_tree.h"

namespace flockfs {
namespace {

constexpr uid_t kUser = 12345;
constexpr gid_t kGroup = 23456;

// Runs in a thread of its own, with a umask of its own, as the workers do.
class MakeTest : public TempTree {
 protected:
  void SetUp() override {
    if (::geteuid() != 0) GTEST_SKIP() << "needs root";
    TempTree::SetUp();
    ASSERT_EQ(::chmod(dir_.c_str(), 0755), 0);  // the user may not write here; the kernel would have checked
  }

  template <typename Body>
  void in_worker(Body body) {
    std::thread([&] {
      ASSERT_TRUE(own_umask().ok());
      body();
      EXPECT_EQ(static_cast<uid_t>(::syscall(SYS_setfsuid, -1)), 0U);
      EXPECT_EQ(static_cast<gid_t>(::syscall(SYS_setfsgid, -1)), 0U);
    }).join();
  }

  struct stat stat_at(const std::string& name) const {
    struct stat st {};
    EXPECT_EQ(::lstat(at(name).c_str(), &st), 0) << name;
    return st;
  }

  [[nodiscard]] int root() const { return source_->root_fd(); }
  const Caller user_{kUser, kGroup, 027, {}};
};

Status nothing(int) { return {}; }

TEST_F(MakeTest, WhatIsMadeBelongsToTheCallerAndObeysItsUmask) {
  in_worker([&] {
    ASSERT_TRUE(make_file(root(), "file", O_RDWR, 0666, user_, nothing).ok());
    ASSERT_TRUE(make_file_plainly(root(), "plain", O_WRONLY, 0666, user_).ok());
    ASSERT_TRUE(make_directory(root(), "dir", 0777, user_).ok());
    ASSERT_TRUE(make_node(root(), "fifo", S_IFIFO | 0666, 0, user_).ok());
    ASSERT_TRUE(make_symlink(root(), "link", "target", user_).ok());
  });
  for (const char* name : {"file", "plain", "dir", "fifo", "link"}) {
    EXPECT_EQ(stat_at(name).st_uid, kUser) << name;
    EXPECT_EQ(stat_at(name).st_gid, kGroup) << name;
  }
  EXPECT_EQ(stat_at("file").st_mode & 07777, 0640U);
  EXPECT_EQ(stat_at("plain").st_mode & 07777, 0640U);
  EXPECT_EQ(stat_at("dir").st_mode & 07777, 0750U);
  EXPECT_EQ(stat_at("fifo").st_mode & 07777, 0640U);
}

TEST_F(MakeTest, ASetgidDirectoryHandsDownItsGroup) {
  ASSERT_EQ(::chown(dir_.c_str(), 0, 777), 0);
  ASSERT_EQ(::chmod(dir_.c_str(), 02755), 0);
  in_worker([&] {
    ASSERT_TRUE(make_file(root(), "file", O_RDWR, 0666, user_, nothing).ok());
    ASSERT_TRUE(make_directory(root(), "dir", 0777, user_).ok());
  });
  EXPECT_EQ(stat_at("file").st_gid, 777U);
  EXPECT_EQ(stat_at("dir").st_gid, 777U);
  EXPECT_NE(stat_at("dir").st_mode & S_ISGID, 0U);
}

TEST_F(MakeTest, ASetgidFileNeedsMembershipOfTheGroupItGets) {
  ASSERT_EQ(::chown(dir_.c_str(), 0, 777), 0);
  ASSERT_EQ(::chmod(dir_.c_str(), 02755), 0);
  Caller member = user_;
  member.groups = {777};
  in_worker([&] {
    ASSERT_TRUE(make_file(root(), "stranger", O_RDWR, 02775, user_, nothing).ok());
    ASSERT_TRUE(make_file(root(), "member", O_RDWR, 02775, member, nothing).ok());
  });
  EXPECT_EQ(stat_at("stranger").st_mode & S_ISGID, 0U);
  EXPECT_NE(stat_at("member").st_mode & S_ISGID, 0U);
}

TEST_F(MakeTest, AFileIsNotVisibleBeforeItsLockIsTaken) {
  in_worker([&] {
    bool seen = true;
    auto fd = make_file(root(), "file", O_RDWR, 0666, user_, [&](int) {
      seen = ::access(at("file").c_str(), F_OK) == 0;
      return Status();
    });
    ASSERT_TRUE(fd.ok());
    EXPECT_FALSE(seen);
  });
}

TEST_F(MakeTest, AFileWhoseLockFailsIsNeverVisible) {
  in_worker([&] {
    auto fd = make_file(root(), "file", O_RDWR, 0666, user_, [](int) { return Status(Error{ENOLCK, {}}); });
    EXPECT_EQ(fd.error().code, ENOLCK);
  });
  EXPECT_TRUE(std::filesystem::is_empty(dir_));
}

TEST_F(MakeTest, ANameThatTurnedUpMeanwhileIsLeftAlone) {
  in_worker([&] {
    auto fd = make_file(root(), "file", O_RDWR, 0666, user_, [&](int) {
      write("file", "another's");
      return Status();
    });
    EXPECT_EQ(fd.error().code, EEXIST);
  });
  EXPECT_EQ(stat_at("file").st_size, 9);
}

TEST_F(MakeTest, AReaderWhoCreatesGetsItsFile) {
  in_worker([&] { ASSERT_TRUE(make_file(root(), "file", O_RDONLY, 0400, user_, nothing).ok()); });
  EXPECT_EQ(stat_at("file").st_mode & 07777, 0400U);
}

}  // namespace
}  // namespace flockfs
