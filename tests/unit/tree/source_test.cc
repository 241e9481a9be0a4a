#include "tree/source.h"

#include <sched.h>
#include <sys/mount.h>
#include <sys/wait.h>

#include <functional>

#include "tree/temp_tree.h"

namespace flockfs {
namespace {

// Runs in a child with mounts of its own; the child's failed expectations are its exit status.
void with_own_mounts(const std::function<void()>& body) {
  const pid_t child = ::fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    if (::unshare(CLONE_NEWNS) != 0 || ::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0) ::_exit(77);
    body();
    ::_exit(testing::Test::HasFailure() ? 1 : 0);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  if (WIFEXITED(status) && WEXITSTATUS(status) == 77) GTEST_SKIP() << "needs the right to mount";
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << "status " << status;
}

using SourceTest = TempTree;

TEST_F(SourceTest, AMountMadeLaterIsNotSeen) {
  with_own_mounts([&] {
    ASSERT_EQ(::mkdir(at("d").c_str(), 0700), 0);
    auto source = Source::open({dir_, false, false});
    ASSERT_TRUE(source.ok());
    ASSERT_EQ(::mount("none", at("d").c_str(), "tmpfs", 0, nullptr), 0);
    write("d/later", "x");
    EXPECT_NE(::faccessat((*source)->root_fd(), "d/later", F_OK, 0), 0);
  });
}

TEST_F(SourceTest, ReadOnlyHoldsBelowTheDaemon) {
  with_own_mounts([&] {
    auto source = Source::open({dir_, true, false});
    ASSERT_TRUE(source.ok());
    EXPECT_LT(::openat((*source)->root_fd(), "new", O_CREAT | O_WRONLY, 0600), 0);
    EXPECT_EQ(errno, EROFS);
  });
}

TEST_F(SourceTest, EqualNumbersOfTwoFileSystemsAreShownApartAndTheSameEachTime) {
  with_own_mounts([&] {
    ASSERT_EQ(::mkdir(at("d").c_str(), 0700), 0);
    ASSERT_EQ(::mount("none", at("d").c_str(), "tmpfs", 0, nullptr), 0);
    const auto shown = [&] {
      auto source = Source::open({dir_, false, false});
      EXPECT_TRUE(source.ok());
      InodeTable table(**source);
      EXPECT_TRUE(table.open_root().ok());
      auto mount = table.lookup(table.root(), "d");
      EXPECT_TRUE(mount.ok());
      EXPECT_NE(mount->inode->dev(), table.root()->dev());
      EXPECT_EQ((*source)->shown_ino(table.root()->dev(), 4711), 4711U);
      return (*source)->shown_ino(mount->inode->dev(), 4711);
    };
    const ino_t first = shown();
    EXPECT_NE(first, 4711U);
    EXPECT_EQ(first, shown());
  });
}

TEST_F(SourceTest, AFileSystemOfTheKernelIsShownEmpty) {
  with_own_mounts([&] {
    ASSERT_EQ(::mkdir(at("p").c_str(), 0700), 0);
    ASSERT_EQ(::mount("proc", at("p").c_str(), "proc", 0, nullptr), 0);
    auto source = Source::open({dir_, false, false});
    ASSERT_TRUE(source.ok());
    InodeTable table(**source);
    ASSERT_TRUE(table.open_root().ok());
    auto proc = table.lookup(table.root(), "p");
    ASSERT_TRUE(proc.ok());
    EXPECT_TRUE(proc->inode->is_empty_mount());
    EXPECT_EQ(table.lookup(proc->inode, "self").error().code, ENOENT);
  });
}

TEST_F(SourceTest, AFileIsNoSource) {
  write("a", "x");
  EXPECT_EQ(Source::open({at("a"), false, false}).error().code, ENOTDIR);
}

TEST_F(SourceTest, AMissingSourceIsNamed) {
  const auto source = Source::open({at("missing"), false, false});
  ASSERT_FALSE(source.ok());
  EXPECT_NE(source.error().message().find(at("missing")), std::string::npos);
}

}  // namespace
}  // namespace flockfs
