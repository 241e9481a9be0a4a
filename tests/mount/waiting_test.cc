// DESIGN 1.5: however many opens wait, every other request is served, and nothing of a wait is left behind.

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <string>
#include <vector>

#include "harness/crowd.h"
#include "harness/lease.h"
#include "harness/mirror_test.h"
#include "harness/program.h"

namespace flockfs::test {
namespace {

// What others do in a directory of the mirror while opens wait in it.
void use_directory(const std::string& dir) {
  EXPECT_FALSE(list_dir(dir).empty());
  write_file(dir + "/created", "text");
  EXPECT_EQ(read_file(dir + "/created"), "text");
  append_file(dir + "/created", " more");
  EXPECT_EQ(stat_of(dir + "/created").st_size, 9);
  EXPECT_EQ(::rename((dir + "/created").c_str(), (dir + "/renamed").c_str()), 0);
  EXPECT_FALSE(exists(dir + "/created"));
  EXPECT_EQ(::mkdir((dir + "/folder").c_str(), 0755), 0);
  EXPECT_EQ(::symlink("renamed", (dir + "/link").c_str()), 0);
  EXPECT_EQ(read_file(dir + "/link"), "text more");
  EXPECT_EQ(::chmod((dir + "/renamed").c_str(), 0600), 0);
  EXPECT_EQ(::unlink((dir + "/link").c_str()), 0);
  EXPECT_EQ(::rmdir((dir + "/folder").c_str()), 0);
  EXPECT_EQ(::unlink((dir + "/renamed").c_str()), 0);
  struct statvfs status {};
  EXPECT_EQ(::statvfs(dir.c_str(), &status), 0);
}

int open_and_read(const std::string& path, int flags) {
  const UniqueFd fd(::open(path.c_str(), flags | O_CLOEXEC));
  if (!fd) return errno;
  char byte = 0;
  if ((flags & O_ACCMODE) == O_WRONLY) return 0;
  return ::read(fd.get(), &byte, 1) >= 0 ? 0 : errno;
}

// Reader, writer, O_CREAT, O_TRUNC in turn.
int flags_of(int index) {
  constexpr int kFlags[] = {O_RDONLY, O_RDWR, O_RDWR | O_CREAT, O_RDONLY | O_NONBLOCK, O_WRONLY | O_TRUNC};
  return kFlags[index % 5];
}

class WaitingTest : public PassthroughTest {
 protected:
  void SetUp() override {
    make_dir(source("dir"));
    write_file(source("dir/f"), "contents");
  }
  // The daemon is as it was before the waits; its idle threads may stay for some seconds.
  void expect_nothing_left(int threads, int descriptors) {
    EXPECT_TRUE(eventually([&] { return mirror().threads() <= threads; }, kPatience * 2))
        << mirror().threads() << " threads, " << threads << " before";
    EXPECT_TRUE(eventually([&] { return mirror().descriptors() <= descriptors; }))
        << mirror().descriptors() << " descriptors, " << descriptors << " before";
  }
};
INSTANTIATE_TEST_SUITE_P(Mount, WaitingTest, BothPassthroughs(), passthrough_name);

TEST_P(WaitingTest, HundredsOfWaitingOpensHarmNobody) {
  const int waiters = std::getenv("FLOCKFS_TEST_FULL") != nullptr ? 1000 : 400;
  mount();
  EXPECT_TRUE(in_child([&] { use_directory(mnt("dir")); }));
  const int threads = mirror().threads();
  ForeignLock foreign(source("dir/f"), LOCK_EX);
  Crowd crowd(waiters, [&](int index) { return open_and_read(mnt("dir/f"), flags_of(index)); });
  ASSERT_TRUE(mirror().waits_for(source("dir/f"), static_cast<std::size_t>(waiters), kPatience * 6));
  EXPECT_TRUE(in_child([&] { use_directory(mnt("dir")); }));
  EXPECT_TRUE(in_child([&] { EXPECT_EQ(::rename(mnt("dir/f").c_str(), mnt("dir/g").c_str()), 0); }));
  EXPECT_TRUE(in_child([&] { EXPECT_EQ(::rename(mnt("dir/g").c_str(), mnt("dir/f").c_str()), 0); }));
  EXPECT_EQ(crowd.finished(), 0);
  EXPECT_LT(mirror().threads(), threads + 50);
  foreign.release();
  EXPECT_TRUE(crowd.all_succeed());
  EXPECT_TRUE(becomes_free(source("dir/f")));
}

// While the lock goes from one to the next each of those who wait is looked at again and again, by another thread.
TEST_P(WaitingTest, LooksAtThoseWhoWaitDoNotWakeTheKeeperEach) {
  constexpr int kWaiters = 300;
  mount();
  ForeignLock foreign(source("dir/f"), LOCK_EX);
  Crowd crowd(kWaiters, [&](int /*index*/) { return open_error(mnt("dir/f"), O_WRONLY); });
  ASSERT_TRUE(mirror().waits_for(source("dir/f"), kWaiters, kPatience * 6));
  const std::uint64_t before = mirror().sleeps_of("flockfs-keeper");
  const auto start = std::chrono::steady_clock::now();
  foreign.release();
  EXPECT_TRUE(crowd.all_succeed());
  const auto time = std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::steady_clock::now() - start);
  const std::uint64_t sleeps = mirror().sleeps_of("flockfs-keeper") - before;
  // By its own timers once in a millisecond.
  EXPECT_LE(sleeps, static_cast<std::uint64_t>(time.count()) * 2 + kWaiters / 10) << time.count() << " ms";
}

// One file each, for which the daemon has to wait in as many places.
TEST_P(WaitingTest, WaitsForHundredsOfFilesHarmNobody) {
  constexpr int kFiles = 300;
  std::vector<std::unique_ptr<ForeignLock>> locks;
  const auto name = [](int index) { return "dir/held" + std::to_string(index); };
  for (int i = 0; i < kFiles; ++i) {
    write_file(source(name(i)), "contents");
    locks.push_back(std::make_unique<ForeignLock>(source(name(i)), LOCK_EX));
  }
  mount();
  EXPECT_TRUE(in_child([&] { use_directory(mnt("dir")); }));
  Crowd crowd(kFiles, [&](int index) { return open_and_read(mnt(name(index)), flags_of(index)); });
  ASSERT_TRUE(log().wait_for_count({.event = "wait"}, kFiles, kPatience * 4));
  EXPECT_TRUE(in_child([&] { use_directory(mnt("dir")); }));
  EXPECT_EQ(crowd.finished(), 0);
  locks.clear();
  EXPECT_TRUE(crowd.all_succeed());
  for (int i = 0; i < kFiles; ++i) EXPECT_TRUE(becomes_free(source(name(i))));
}

TEST_P(WaitingTest, HolderReadsAndWritesWhileHundredWaitForIt) {
  mount();
  Child holder([&](Peer& test) {
    UniqueFd fd = open_file(mnt("dir/f"), O_RDWR);
    test.say("open");
    test.await("use");
    EXPECT_EQ(::pwrite(fd.get(), "CONTENTS and more", 17, 0), 17);
    EXPECT_EQ(read_all(fd.get()), "CONTENTS and more");
    EXPECT_EQ(::lseek(fd.get(), 0, SEEK_END), 17);
    EXPECT_EQ(::ftruncate(fd.get(), 12), 0);
    EXPECT_EQ(::fchmod(fd.get(), 0666), 0);
    EXPECT_EQ(::fsync(fd.get()), 0);
    EXPECT_EQ(::close(::dup(fd.get())), 0);
    struct stat status {};
    EXPECT_EQ(::fstat(fd.get(), &status), 0);
    EXPECT_EQ(status.st_size, 12);
    test.say("used");
    test.await("close");
  });
  ASSERT_TRUE(holder.says("open"));
  Crowd crowd(100, [&](int index) { return open_and_read(mnt("dir/f"), flags_of(index)); });
  ASSERT_TRUE(mirror().waits_for(source("dir/f"), 100));
  holder.say("use");
  ASSERT_TRUE(holder.says("used"));
  EXPECT_EQ(crowd.finished(), 0);
  holder.say("close");
  EXPECT_TRUE(holder.ends_well());
  EXPECT_TRUE(crowd.all_succeed());
}

TEST_P(WaitingTest, LeasedFileHarmsNobody) {
  mount();
  EXPECT_TRUE(in_child([&] { use_directory(mnt("dir")); }));
  const int threads = mirror().threads();
  Child holder = lease_holder(source("dir/f"));
  ASSERT_TRUE(holder.says("leased"));
  // More than there are workers, so that a blocked one would be noticed.
  Crowd crowd(60, [&](int index) { return open_and_read(mnt("dir/f"), flags_of(index)); });
  // The first open to arrive breaks the lease; the lease is then listed as being broken.
  ASSERT_TRUE(eventually([&] { return lease_is_breaking(source("dir/f")); }));
  pause_for(Millis(300));
  EXPECT_TRUE(in_child([&] { use_directory(mnt("dir")); }));
  EXPECT_TRUE(in_child([&] { EXPECT_EQ(stat_of(mnt("dir/f")).st_size, 8); }));
  EXPECT_EQ(crowd.finished(), 0);
  holder.say("give way");
  EXPECT_TRUE(holder.says("given way"));
  EXPECT_TRUE(crowd.all_succeed());
  EXPECT_TRUE(becomes_free(source("dir/f")));
  EXPECT_TRUE(eventually([&] { return mirror().threads() <= threads; }, kPatience * 2)) << mirror().threads();
}

// Five seconds in all, whatever the truncation waited for (DESIGN 4.2).
TEST_P(WaitingTest, TruncationByPathOfALeasedFileGivesUp) {
  write_file(source("dir/f"), "contents");
  mount();
  Child holder = lease_holder(source("dir/f"));
  ASSERT_TRUE(holder.says("leased"));
  const Stopwatch watch;
  Child child([&](Peer& test) { test.say(std::to_string(::truncate(mnt("dir/f").c_str(), 3) == 0 ? 0 : errno)); });
  EXPECT_TRUE(child.says(std::to_string(EAGAIN), Millis(9000)));
  EXPECT_LT(watch.elapsed(), scaled(Millis(8000)));
  holder.say("give way");
  EXPECT_EQ(read_file(source("dir/f")), "contents");
}

TEST_P(WaitingTest, WaiterForALeasedFileCanBeKilled) {
  mount();
  Child holder = lease_holder(source("dir/f"));
  ASSERT_TRUE(holder.says("leased"));
  Opener opener(mnt("dir/f"), O_RDWR);
  ASSERT_TRUE(eventually([&] { return lease_is_breaking(source("dir/f")); }));
  pause_for(Millis(200));
  EXPECT_TRUE(opener.is_waiting());
  const Stopwatch watch;
  opener.child().signal(SIGKILL);
  ASSERT_TRUE(opener.child().killed_by(SIGKILL));
  EXPECT_LT(watch.elapsed(), scaled(Millis(100)));
  holder.say("give way");
  EXPECT_TRUE(holder.says("given way"));
  EXPECT_TRUE(becomes_free(source("dir/f")));
}

TEST_P(WaitingTest, MirrorOfAMirrorWithFiftyWaitingOpensAnswers) {
  mount();
  const std::string outer_mnt = folder("outer");
  const std::string scratch = folder("outer-scratch");
  MirrorSetup setup;
  adapt(setup);
  {
    MountedMirror outer(mnt(), outer_mnt, scratch, setup);
    EXPECT_TRUE(in_child([&] { use_directory(outer_mnt + "/dir"); }));
    ForeignLock foreign(source("dir/f"), LOCK_EX);
    Crowd crowd(50, [&](int index) { return open_and_read(outer_mnt + "/dir/f", flags_of(index)); });
    // How many of them reach the inner mirror at a time is the outer one's business.
    ASSERT_TRUE(mirror().waits_for(source("dir/f")));
    pause_for(Millis(300));
    EXPECT_TRUE(in_child([&] { use_directory(outer_mnt + "/dir"); }, kPatience * 2));
    EXPECT_TRUE(in_child([&] { use_directory(mnt("dir")); }));
    EXPECT_EQ(crowd.finished(), 0);
    foreign.release();
    EXPECT_TRUE(crowd.all_succeed());
    EXPECT_TRUE(becomes_free(source("dir/f")));
  }
}

TEST_P(WaitingTest, WaiterInAMirrorOfAMirrorCanBeKilled) {
  mount();
  const std::string outer_mnt = folder("outer");
  const std::string scratch = folder("outer-scratch");
  MirrorSetup setup;
  adapt(setup);
  MountedMirror outer(mnt(), outer_mnt, scratch, setup);
  ForeignLock foreign(source("dir/f"), LOCK_EX);
  Opener opener(outer_mnt + "/dir/f", O_RDWR);
  ASSERT_TRUE(mirror().waits_for(source("dir/f")));
  const Stopwatch watch;
  opener.child().signal(SIGKILL);
  ASSERT_TRUE(opener.child().killed_by(SIGKILL));
  EXPECT_LT(watch.elapsed(), scaled(Millis(200)));
  foreign.release();
  EXPECT_TRUE(becomes_free(source("dir/f")));
}

TEST_P(WaitingTest, FiveHundredWaitsLeaveNoDescriptorAndNoThread) {
  mount();
  EXPECT_TRUE(in_child([&] { use_directory(mnt("dir")); }));
  const int threads = mirror().threads();
  const int descriptors = mirror().descriptors();
  for (int round = 0; round < 5; ++round) {
    ForeignLock foreign(source("dir/f"), LOCK_EX);
    Crowd crowd(100, [&](int index) { return open_and_read(mnt("dir/f"), flags_of(index)); });
    ASSERT_TRUE(mirror().waits_for(source("dir/f"), static_cast<std::size_t>(round + 1) * 100));
    if (round % 2 == 0) {
      crowd.signal(SIGKILL);
      ASSERT_TRUE(crowd.all_gone());
      foreign.release();
    } else {
      foreign.release();
      ASSERT_TRUE(crowd.all_succeed());
    }
    EXPECT_TRUE(becomes_free(source("dir/f")));
  }
  expect_nothing_left(threads, descriptors);
  EXPECT_TRUE(has_flocks(source("dir/f"), 0));
}

}  // namespace
}  // namespace flockfs::test
