// When no thread can be had (TasksMax, RLIMIT_NPROC): waits go on by polling, and none fails for it.

#include <fcntl.h>
#include <sys/file.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <memory>
#include <string>
#include <vector>

#include "harness/crowd.h"
#include "harness/faults.h"
#include "harness/mirror_test.h"
#include "harness/pids_limit.h"
#include "harness/users.h"

namespace flockfs::test {
namespace {

// Of files, each with somebody who waits for it.
int crowd_size() { return std::getenv("FLOCKFS_TEST_FULL") != nullptr ? 1000 : 100; }

class NoThreadsTest : public PassthroughTest {
 protected:
  // The leak sanitizer wants a thread for its look at the end, and fails the daemon if it gets none.
  void SetUp() override {
    const char* const options = std::getenv("ASAN_OPTIONS");
    if (options != nullptr) ::setenv("ASAN_OPTIONS", (std::string(options) + ":detect_leaks=0").c_str(), 1);
  }

  [[nodiscard]] static std::string name(int index) { return "f" + std::to_string(index); }

  void make_files(int count, uid_t owner = 0) {
    for (int i = 0; i < count; ++i) {
      write_file(source(name(i)), "contents");
      ASSERT_EQ(::chown(source(name(i)).c_str(), owner, owner), 0);
    }
  }

  // A lock on each of the files, by descriptors of the calling process.
  std::vector<std::unique_ptr<ForeignLock>> lock_files(int count) {
    rlimit limit{};
    ::getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max;
    ::setrlimit(RLIMIT_NOFILE, &limit);
    std::vector<std::unique_ptr<ForeignLock>> locks;
    for (int i = 0; i < count; ++i) locks.push_back(std::make_unique<ForeignLock>(source(name(i)), LOCK_EX));
    return locks;
  }

  // REQUIRES: the daemon cannot make a thread.
  void expect_waits_to_go_on(int count) {
    const int threads = mirror().threads();
    auto locks = lock_files(count);
    Crowd crowd(count, [&](int index) { return open_error(mnt(name(index)), index % 3 == 0 ? O_RDWR : O_RDONLY); });
    ASSERT_TRUE(log().wait_for_count({.event = "wait"}, static_cast<std::size_t>(count), kPatience * 6));
    EXPECT_TRUE(in_child([&] { EXPECT_EQ(open_error(mnt("free"), O_RDWR | O_CREAT), 0); }));
    Opener killed(mnt(name(0)), O_RDONLY);
    ASSERT_TRUE(mirror().waits(killed.pid()));
    killed.child().signal(SIGKILL);
    EXPECT_TRUE(killed.child().killed_by(SIGKILL));
    EXPECT_EQ(mirror().threads(), threads);

    EXPECT_EQ(crowd.finished(), 0);
    for (int i = 0; i < count / 2; ++i) locks[static_cast<std::size_t>(i)].reset();
    EXPECT_TRUE(eventually([&] { return crowd.finished() == count / 2; }, kPatience * 4)) << crowd.finished();
    EXPECT_EQ(crowd.finished(), count / 2);
    locks.clear();
    EXPECT_TRUE(crowd.all_succeed());
    EXPECT_EQ(mirror().threads(), threads);
    for (int i = 0; i < count; ++i) EXPECT_TRUE(becomes_free(source(name(i))));
  }

  // A wait that has to do without a thread gets one when there are some again.
  void expect_threads_to_come_back() {
    const int threads = mirror().threads();
    auto locks = lock_files(1);
    Opener opener(mnt(name(0)), O_RDWR);
    ASSERT_TRUE(mirror().waits(opener.pid()));
    EXPECT_TRUE(eventually([&] { return mirror().threads() > threads; }));
    EXPECT_TRUE(has_flocks(source(name(0)), 1, 1));
    locks.clear();
    ASSERT_TRUE(opener.opens());
    opener.close();
  }
};
INSTANTIATE_TEST_SUITE_P(Mount, NoThreadsTest, BothPassthroughs(), passthrough_name);

TEST_P(NoThreadsTest, WaitsGoOnInAFullCgroup) {
  const auto limit = PidsLimit::make();
  if (limit == nullptr) GTEST_SKIP() << "no cgroup with pids.max can be made here";
  make_files(crowd_size());
  mount();
  limit->confine(mirror().daemon());
  limit->set(0);
  expect_waits_to_go_on(crowd_size());
  limit->lift();
  expect_threads_to_come_back();
  unmount();
}

TEST_P(NoThreadsTest, TimeoutsAndTriesAreKept) {
  const auto limit = PidsLimit::make();
  if (limit == nullptr) GTEST_SKIP() << "no cgroup with pids.max can be made here";
  make_files(1);
  mount({.options = {"timeout=300", "nonblock=try"}});
  limit->confine(mirror().daemon());
  limit->set(0);
  {
    const ForeignLock foreign(source("f0"), LOCK_EX);
    const Stopwatch watch;
    Opener opener(mnt("f0"), O_RDONLY);
    EXPECT_TRUE(opener.fails_with(EAGAIN));
    EXPECT_GE(watch.elapsed(), Millis(300));
  }
  Opener holder(mnt("f0"), O_RDWR);
  ASSERT_TRUE(holder.opens());
  Opener trying(mnt("f0"), O_RDONLY | O_NONBLOCK);
  EXPECT_TRUE(trying.fails_with(EAGAIN));
  holder.close();
  EXPECT_TRUE(in_child([&] {
    for (int round = 0; round < 200; ++round) {
      ASSERT_EQ(open_error(mnt("f0"), O_RDWR | O_NONBLOCK), 0) << round;
    }
  }));
  unmount();
}

// The same for a daemon that is no root, to whom the limit for all processes of a user applies.
TEST_P(NoThreadsTest, WaitsGoOnAtTheLimitOfAUser) {
  const uid_t user = 40000 + static_cast<uid_t>(::getpid()) % 20000;  // none of a test that runs at the same time
  for (const std::string& path : {source(), mnt(), tree() / "scratch"}) {
    ASSERT_EQ(::chown(path.c_str(), user, user), 0);
  }
  make_files(crowd_size(), user);
  const auto become_somebody = [&] {
    cover_dev(FuseDevice::kForAll);
    become_user(user, user);
    enter_own_namespaces();
  };
  const bool can = static_cast<bool>(in_child([&] {
    become_somebody();
    ASSERT_EQ(::mount("tmpfs", "/mnt", "tmpfs", 0, nullptr), 0);
  }));
  if (!can) GTEST_SKIP() << "this system does not let users do that";
  EXPECT_TRUE(in_child(
      [&] {
        become_somebody();
        mount();
        const rlimit none{0, 0};
        ASSERT_EQ(::prlimit(mirror().daemon(), RLIMIT_NPROC, &none, nullptr), 0);
        expect_waits_to_go_on(crowd_size());
        unmount();
      },
      kPatience * 10));
}

}  // namespace
}  // namespace flockfs::test
