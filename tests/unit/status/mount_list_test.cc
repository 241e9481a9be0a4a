#include "status/mount_list.h"

#include <gtest/gtest.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <vector>

#include "status/process_tree.h"

namespace flockfs::test {
namespace {

TEST(MountListTest, MirrorsOnly) {
  const auto mirrors = parse_mirrors(
      "22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n"
      "40 22 0:52 / /mnt/my\\040data rw,nosuid - fuse.flockfs /srv/da\\040ta "
      "rw,user_id=1000,group_id=1000,default_permissions\n"
      "41 22 0:53 / /mnt/b rw shared:5 master:1 - fuse.flockfs /b ro,user_id=0,group_id=0\n"
      "42 22 0:54 / /mnt/c rw - fuse.sshfs host: rw,user_id=0\n");
  ASSERT_EQ(mirrors.size(), 2U);
  EXPECT_EQ(mirrors[0], (ListedMirror{makedev(0, 52), "/mnt/my data", 1000, 40}));
  EXPECT_EQ(mirrors[1], (ListedMirror{makedev(0, 53), "/mnt/b", 0, 41}));
}

TEST(MountListTest, OddLinesAreNone) {
  EXPECT_TRUE(parse_mirrors("").empty());
  EXPECT_TRUE(parse_mirrors("\n\n40\n40 22 0:52 / /m rw - fuse.flockfs\n").empty());
  EXPECT_TRUE(parse_mirrors("40 22 x:52 / /m rw - fuse.flockfs /s rw\n").empty());
}

TEST(ProcessTreeTest, ChildrenAndTheirChildren) {
  int pipe[2];
  ASSERT_EQ(::pipe(pipe), 0);
  const pid_t child = ::fork();
  if (child == 0) {
    const pid_t grandchild = ::fork();
    if (grandchild != 0) (void)::write(pipe[1], &grandchild, sizeof grandchild);
    ::pause();
    ::_exit(0);
  }
  pid_t grandchild = 0;
  ASSERT_EQ(::read(pipe[0], &grandchild, sizeof grandchild), static_cast<ssize_t>(sizeof grandchild));
  const auto family = with_descendants(::getpid());
  for (const pid_t one : {::getpid(), child, grandchild}) EXPECT_EQ(std::ranges::count(family, one), 1) << one;
  EXPECT_EQ(with_descendants(grandchild), std::vector<pid_t>{grandchild});
  EXPECT_EQ(std::ranges::count(family, ::getppid()), 0);
  ::kill(grandchild, SIGKILL);
  ::kill(child, SIGKILL);
  ::waitpid(child, nullptr, 0);
}

}  // namespace
}  // namespace flockfs::test
