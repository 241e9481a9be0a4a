// Issue 6, point 3: what flockfs finds at its mount point is replaced if it is a mirror that has died, and nothing
// else.

#include <sys/stat.h>

#include <csignal>
#include <fstream>
#include <string>

#include "service_fixture.h"

namespace flockfs::test {
namespace {

class DeadMirrorTest : public ServiceTest {
 protected:
  // A mirror whose daemon has been killed.
  void leave_dead_mirror() {
    const ProgramResult started = run_program({flockfs_program(), source(), mnt()});
    ASSERT_EQ(started.exit_code, 0) << started;
    kill_daemon_at(mnt());
  }
  [[nodiscard]] int mounts_there() const {
    int count = 0;
    std::ifstream table("/proc/self/mountinfo");
    for (std::string line; std::getline(table, line);) count += line.find(" " + mnt() + " ") != std::string::npos;
    return count;
  }
};

TEST_F(DeadMirrorTest, IsReplaced) {
  leave_dead_mirror();
  leave_dead_mirror();
  EXPECT_EQ(mounts_there(), 1);
  const auto daemon = start({source(), mnt()});
  ASSERT_TRUE(eventually([&] { return daemon->err().find("event=mounted") != std::string::npos; })) << daemon->err();
  EXPECT_EQ(mounts_there(), 1);
  expect_locked_open();
  EXPECT_NE(daemon->err().find("replacing a mirror that has died"), std::string::npos) << daemon->err();
  stop(*daemon);
  EXPECT_EQ(mounts_there(), 0);
}

TEST_F(DeadMirrorTest, LiveOneIsNot) {
  const auto below = start({source(), mnt()});
  ASSERT_TRUE(comes_up()) << below->err();
  const auto daemon = start({source(), mnt()});
  ASSERT_TRUE(eventually([&] { return mounts_there() == 2; })) << daemon->err();
  EXPECT_EQ(daemon->err().find("died"), std::string::npos);
  stop(*daemon);
  EXPECT_EQ(mounts_there(), 1);
  expect_locked_open();
  stop(*below);
}

TEST_F(DeadMirrorTest, SomebodyElsesIsNot) {
  Program bindfs({"bindfs", "-f", source(), mnt()});
  ASSERT_TRUE(comes_up()) << bindfs.err();
  bindfs.process().signal(SIGKILL);
  ASSERT_EQ(bindfs.exit_code(), 128 + SIGKILL);
  const ProgramResult result = run_program({flockfs_program(), source(), mnt()});
  EXPECT_EQ(result.exit_code, 1) << result;
  EXPECT_NE(result.err.find("a mount that died? unmount it first"), std::string::npos) << result;
  EXPECT_EQ(mounts_there(), 1);
  EXPECT_EQ(run_program({"umount", "-l", mnt()}).exit_code, 0);
}

TEST_F(DeadMirrorTest, DirectoryBelowOneIsNoPlaceForAnother) {
  ASSERT_EQ(::mkdir(source("dir").c_str(), 0755), 0);
  leave_dead_mirror();
  EXPECT_EQ(run_program({flockfs_program(), source(), mnt("dir")}).exit_code, 1);
  EXPECT_EQ(mounts_there(), 1);
  EXPECT_EQ(run_program({"umount", "-l", mnt()}).exit_code, 0);
}

}  // namespace
}  // namespace flockfs::test
