// Waits for somebody else's lock file (DESIGN 1.10, 1.5, 1.8): as long as timeout says, ended by signals, leaving
// nothing.

#include <fcntl.h>
#include <sys/file.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <string>

#include "harness/connection.h"
#include "harness/crowd.h"
#include "harness/lockfile.h"
#include "harness/mirror_test.h"

namespace flockfs::test {
namespace {

extern "C" void note_lockfile_signal(int) {}

class LockFileWaitTest : public MirrorTest {
 protected:
  LockFileWaitTest() { cover_record_directory(); }
  void SetUp() override { write_file(source("f"), "contents"); }
  MountedMirror& mount_with(std::vector<std::string> options = {}) {
    options.insert(options.begin(), "lock=flock+lockfile");
    return mount({.options = options});
  }
  void take() { write_file(source("f.lock"), ""); }
  void give_back() { ASSERT_EQ(::unlink(source("f.lock").c_str()), 0); }
  // Neither a lock nor a lock file but the test's own.
  void expect_nothing_held() {
    EXPECT_TRUE(has_flocks(source("f"), 0));
    EXPECT_EQ(source_lock(source("f")), LockSeen::kFree);
    EXPECT_TRUE(exists(source("f.lock")));
    EXPECT_EQ(read_file(source("f")), "contents");
  }
};

TEST_F(LockFileWaitTest, GetsItWhenItHasGoneAndHoldsNothingUntilThen) {
  mount_with();
  take();
  Opener writer(mnt("f"), O_RDWR | O_TRUNC);
  ASSERT_TRUE(mirror().waits(writer.pid()));
  EXPECT_EQ(log().count({.event = "wait", .path = source("f.lock"), .pid = writer.pid()}), 1u) << log().text();
  expect_nothing_held();
  pause_for(Millis(300));
  EXPECT_TRUE(writer.is_waiting());
  expect_nothing_held();
  give_back();
  ASSERT_TRUE(writer.opens());
  EXPECT_TRUE(exists(source("f.lock")));
  EXPECT_EQ(writer.contents(), "");
  const auto entry = log().wait_for({.event = "lock", .path = source("f"), .pid = writer.pid()});
  ASSERT_TRUE(entry) << log().text();
  EXPECT_GE(std::stod(entry->get("wait_ms")), 300.0);
  EXPECT_EQ(log().count({.event = "wait"}), 1u) << log().text();
  writer.close();
  EXPECT_TRUE(goes_away(source("f.lock")));
}

TEST_F(LockFileWaitTest, ReadersPassAWaitingWriter) {
  mount_with();
  take();
  Opener writer(mnt("f"), O_RDWR);
  ASSERT_TRUE(mirror().waits(writer.pid()));
  EXPECT_TRUE(in_child([&] {
    for (int round = 0; round < 100; ++round) ASSERT_EQ(open_error(mnt("f"), O_RDONLY), 0);
  }));
  EXPECT_TRUE(writer.is_waiting());
  give_back();
  EXPECT_TRUE(writer.opens());
  writer.close();
}

// The lock file has gone, the lock is taken: both are waited for in turn, and only one wait is told of each kind.
TEST_F(LockFileWaitTest, WaitsForBothParts) {
  mount_with();
  take();
  Opener writer(mnt("f"), O_RDWR);
  ASSERT_TRUE(mirror().waits(writer.pid()));
  ForeignLock foreign(source("f"), LOCK_SH);
  give_back();
  ASSERT_TRUE(log().wait_for({.event = "wait", .path = source("f"), .pid = writer.pid()})) << log().text();
  EXPECT_FALSE(exists(source("f.lock"))) << "kept while the other part is waited for";
  take();
  foreign.release();
  pause_for(Millis(50));
  EXPECT_TRUE(writer.is_waiting());
  expect_nothing_held();
  give_back();
  EXPECT_TRUE(writer.opens());
  writer.close();
}

TEST_F(LockFileWaitTest, ZeroTriesOnceAndATimeoutEndsIt) {
  take();
  mount_with({"timeout=0"});
  Opener trying(mnt("f"), O_RDWR);
  EXPECT_TRUE(trying.fails_with(EAGAIN));
  expect_nothing_held();
  EXPECT_EQ(log().count({.event = "wait"}), 0u);
  unmount();
  mount_with({"timeout=300"});
  const Stopwatch watch;
  Opener writer(mnt("f"), O_RDWR | O_TRUNC);
  EXPECT_TRUE(writer.fails_with(EAGAIN));
  EXPECT_GE(watch.elapsed(), Millis(300));
  EXPECT_LT(watch.elapsed(), scaled(Millis(600)));
  expect_nothing_held();
  EXPECT_TRUE(log().wait_for({.event = "timeout", .path = source("f"), .pid = writer.pid()})) << log().text();
}

TEST_F(LockFileWaitTest, OnTimeoutUnlockedOpensWithNeitherPart) {
  take();
  mount_with({"timeout=100", "on_timeout=unlocked"});
  Opener writer(mnt("f"), O_RDWR);
  ASSERT_TRUE(writer.opens());
  EXPECT_TRUE(log().wait_for({.event = "unlocked", .path = source("f"), .reason = "timeout"})) << log().text();
  EXPECT_EQ(source_lock(source("f")), LockSeen::kFree);
  EXPECT_EQ(writer.contents(), "contents");
  writer.close();
  EXPECT_TRUE(exists(source("f.lock")));
}

TEST_F(LockFileWaitTest, SignalsEndItAndNothingElseDoes) {
  mount_with();
  take();
  const auto wait = [&](const std::function<void()>& prepare) {
    auto opener = std::make_unique<Opener>([=, this] {
      prepare();
      return ::open(mnt("f").c_str(), O_RDWR | O_TRUNC | O_CLOEXEC);
    });
    EXPECT_TRUE(mirror().waits(opener->pid()));
    return opener;
  };
  {
    const auto killed = wait([] {});
    const Stopwatch watch;
    killed->child().signal(SIGKILL);
    EXPECT_TRUE(killed->child().killed_by(SIGKILL));
    EXPECT_LT(watch.elapsed(), scaled(Millis(200)));
    EXPECT_TRUE(log().wait_for({.event = "interrupted", .path = source("f"), .pid = killed->pid()}));
  }
  {
    const auto caught = wait([] { ::signal(SIGUSR1, note_lockfile_signal); });
    caught->child().signal(SIGUSR1);
    EXPECT_TRUE(caught->fails_with(EINTR));
  }
  {
    const auto stopped = wait([] { ::signal(SIGUSR1, note_lockfile_signal); });
    for (int round = 0; round < 2; ++round) {
      stopped->child().signal(SIGSTOP);
      pause_for(Millis(150));
      stopped->child().signal(SIGCONT);
    }
    pause_for(Millis(150));
    EXPECT_TRUE(stopped->is_waiting());
    stopped->child().signal(SIGUSR1);  // there is one INTERRUPT for each request, and that was for the stop
    EXPECT_TRUE(stopped->fails_with(EINTR));
  }
  expect_nothing_held();
  EXPECT_TRUE(log().wait_for_count({.event = "interrupted"}, 3)) << log().text();
}

TEST_F(LockFileWaitTest, ManyWaitersNeedNoThreadEachAndHoldUpNobody) {
  constexpr int kMany = 200;
  for (int i = 0; i < kMany; ++i) {
    write_file(source("w" + std::to_string(i)), "x");
    write_file(source("w" + std::to_string(i) + ".lock"), "");
  }
  mount_with();
  const int before = mirror().threads();
  Crowd crowd(kMany, [&](int i) { return open_error(mnt("w" + std::to_string(i)), O_RDWR); });
  ASSERT_TRUE(eventually([&] { return log().count({.event = "wait"}) == kMany; }));
  EXPECT_LE(mirror().threads(), before + 8);
  EXPECT_TRUE(in_child([&] { EXPECT_EQ(open_error(mnt("f"), O_RDWR), 0); }));
  for (int i = 0; i < kMany; ++i) ASSERT_EQ(::unlink(source("w" + std::to_string(i) + ".lock").c_str()), 0);
  EXPECT_TRUE(crowd.all_succeed());
  EXPECT_TRUE(eventually([&] { return list_dir(source()).size() == kMany + 1; }));
}

TEST_F(LockFileWaitTest, ManyKilledWaitersLeaveNothing) {
  take();
  mount_with();
  const int before = mirror().descriptors();
  Crowd crowd(100, [&](int) { return open_error(mnt("f"), O_RDWR); });
  ASSERT_TRUE(log().wait_for_count({.event = "wait", .path = source("f.lock")}, 100));
  crowd.signal(SIGKILL);
  EXPECT_TRUE(crowd.all_gone());
  expect_nothing_held();
  EXPECT_TRUE(eventually([&] { return mirror().descriptors() <= before; })) << mirror().descriptors() - before;
}

TEST_F(LockFileWaitTest, StopEndsItWithEnotconn) {
  take();
  mount_with();
  Opener writer(mnt("f"), O_RDWR);
  ASSERT_TRUE(mirror().waits(writer.pid()));
  ::kill(mirror().daemon(), SIGTERM);
  EXPECT_TRUE(writer.fails_with(ENOTCONN));
  EXPECT_EQ(mirror().daemon_exit(), 0);
  expect_nothing_held();
}

TEST_F(LockFileWaitTest, ForcedAndLazyUnmountsEndIt) {
  take();
  mount_with();
  Opener writer(mnt("f"), O_RDWR);
  ASSERT_TRUE(mirror().waits(writer.pid()));
  EXPECT_EQ(mirror().unmount(MNT_DETACH), 0);
  EXPECT_TRUE(writer.fails_with(ENOTCONN));
  EXPECT_EQ(mirror().daemon_exit(), 0);
  unmount();
  mount_with();
  Opener another(mnt("f"), O_RDWR);
  ASSERT_TRUE(mirror().waits(another.pid()));
  (void)mirror().unmount(MNT_FORCE);  // EBUSY, but the connection is gone
  EXPECT_FALSE(another.opens());
  EXPECT_EQ(mirror().daemon_exit(), 0);
  expect_nothing_held();
}

// What git does: the file is replaced by its lock file. The writer gets the new one.
TEST_F(LockFileWaitTest, ReplacedByItsLockFileMeansTheNewFile) {
  mount_with();
  write_file(source("f.lock"), "new ");
  Opener writer(mnt("f"), O_WRONLY | O_APPEND);
  ASSERT_TRUE(mirror().waits(writer.pid()));
  ASSERT_EQ(::rename(source("f.lock").c_str(), source("f").c_str()), 0);
  ASSERT_TRUE(writer.opens());
  EXPECT_TRUE(exists(source("f.lock")));
  EXPECT_TRUE(writer.write("appended"));
  writer.close();
  EXPECT_EQ(read_file(source("f")), "new appended");
  EXPECT_TRUE(goes_away(source("f.lock")));
}

// The kernel looks a name up anew only once for each open (DESIGN 4.4), so at the second try the open gets what it was
// about, replaced or not.
TEST_F(LockFileWaitTest, ReplacedTwiceIsServedOnTheSecondTry) {
  mount_with();
  write_file(source("f.lock"), "second");
  ForeignLock on_second(source("f.lock"), LOCK_EX);
  Opener writer(mnt("f"), O_WRONLY | O_APPEND);
  ASSERT_TRUE(mirror().waits(writer.pid()));
  ASSERT_EQ(::rename(source("f.lock").c_str(), source("f").c_str()), 0);
  ASSERT_TRUE(log().wait_for({.event = "wait", .path = source("f"), .pid = writer.pid()})) << log().text();
  write_file(source("f.lock"), "third");
  on_second.release();
  ASSERT_TRUE(log().wait_for_count({.event = "wait", .path = source("f.lock"), .pid = writer.pid()}, 2));
  EXPECT_TRUE(becomes_free(source("f")));
  ASSERT_EQ(::rename(source("f.lock").c_str(), source("f").c_str()), 0);
  ASSERT_TRUE(writer.opens());
  EXPECT_EQ(read_file(source("f")), "third");
  writer.close();
  EXPECT_TRUE(goes_away(source("f.lock")));
}

// Again and again, as fast as it goes: no open fails for that, and what is written is in the file.
TEST_F(LockFileWaitTest, ReplacedAllTheTimeFailsNoOpen) {
  mount_with();
  Child replacer([&](Peer&) {
    for (int round = 0; round < 3000; ++round) {
      const UniqueFd lock(::open(source("f.lock").c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0644));
      if (!lock) continue;
      const std::string text = read_file(source("f"));
      ASSERT_EQ(::write(lock.get(), text.data(), text.size()), static_cast<ssize_t>(text.size()));
      ASSERT_EQ(::rename(source("f.lock").c_str(), source("f").c_str()), 0);
    }
  });
  EXPECT_TRUE(in_child(
      [&] {
        for (int round = 0; round < 100; ++round) {
          const int error = open_error(mnt("f"), O_WRONLY | O_APPEND);
          ASSERT_EQ(error, 0) << round << " " << errno_name(error);
        }
      },
      kPatience * 6));
  EXPECT_TRUE(replacer.ends_well(kPatience * 6));
}

TEST_F(LockFileWaitTest, LongWaitIsWarnedOf) {
  take();
  mount_with({"log_level=warning"});
  Opener writer(mnt("f"), O_RDWR);
  const auto entry = log().wait_for({.event = "wait", .path = source("f.lock"), .pid = writer.pid()}, Millis(15000));
  ASSERT_TRUE(entry) << log().text();
  EXPECT_GE(std::stod(entry->get("wait_ms")), 10000.0);
  give_back();
  ASSERT_TRUE(writer.opens());
  EXPECT_TRUE(log().wait_for({.event = "lock", .path = source("f"), .pid = writer.pid()})) << log().text();
  writer.close();
}

}  // namespace
}  // namespace flockfs::test
