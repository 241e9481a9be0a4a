// What the daemon inherits from whoever starts it must not matter: signal masks, limits, groups.

#include <fcntl.h>
#include <grp.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <string>

#include "harness/mirror_test.h"
#include "harness/users.h"

namespace flockfs::test {
namespace {

using InheritedTest = MirrorTest;

TEST_F(InheritedTest, FileSizeLimitIsNotTheClients) {
  write_file(source("f"), "");
  MirrorSetup setup;
  setup.options = {"passthrough=off"};
  setup.program.before_exec = [] {
    const rlimit small{4096, RLIM_INFINITY};
    ::setrlimit(RLIMIT_FSIZE, &small);
  };
  mount(setup);
  EXPECT_TRUE(in_child([&] {
    write_file(mnt("f"), std::string(20000, 'x'));
    EXPECT_EQ(read_file(mnt("f")).size(), 20000u);
  }));
  EXPECT_EQ(stat_of(source("f")).st_size, 20000);
}

TEST_F(InheritedTest, BlockedSignalsDoNotKeepItFromStopping) {
  write_file(source("f"), "contents");
  MirrorSetup setup;
  setup.options = {"stop_timeout=0"};
  setup.program.before_exec = [] {
    sigset_t all;
    sigfillset(&all);
    ::sigprocmask(SIG_SETMASK, &all, nullptr);
  };
  mount(setup);
  Opener holder(mnt("f"), O_RDONLY);
  ASSERT_TRUE(holder.opens());
  const Stopwatch watch;
  ASSERT_EQ(::kill(mirror().daemon(), SIGTERM), 0);
  const auto status = mirror().daemon_exit();
  ASSERT_TRUE(status.has_value());
  EXPECT_EQ(*status, 0);
  EXPECT_LT(watch.elapsed(), scaled(Millis(1500)));
}

TEST_F(InheritedTest, ItsGroupsGiveNobodyRights) {
  make_dir(source("d"));
  ASSERT_EQ(::chown(source("d").c_str(), 0, kTeam), 0);
  ASSERT_EQ(::chmod(source("d").c_str(), 02777), 0);
  MirrorSetup setup;
  setup.program.before_exec = [] {
    const gid_t team = kTeam;
    ::setgroups(1, &team);
  };
  mount(setup);
  EXPECT_TRUE(in_child([&] {
    become_user();
    ::umask(0);
    const UniqueFd fd(::open(mnt("d/f").c_str(), O_CREAT | O_RDWR | O_CLOEXEC, 02775));
    EXPECT_TRUE(fd.valid());
  }));
  EXPECT_EQ(stat_of(source("d/f")).st_gid, kTeam);
  EXPECT_EQ(stat_of(source("d/f")).st_mode & S_ISGID, 0u);
}

}  // namespace
}  // namespace flockfs::test
