// Issue 2, deliverable 3, and DESIGN 2, 4.3: what SIGTERM, umount, umount -f, umount -l and the daemon's death do to
// waits and open files.

#include <fcntl.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <set>
#include <string>

#include "harness/connection.h"
#include "harness/crowd.h"
#include "harness/mirror_test.h"

namespace flockfs::test {
namespace {

class StoppingTest : public PassthroughTest {
 protected:
  void SetUp() override {
    write_file(source("f"), "contents");
    write_file(source("g"), "other");
  }
  // The daemon has ended with status 0 and its mount is gone.
  void expect_clean_end(Millis time = kPatience) {
    EXPECT_EQ(mirror().daemon_exit(time), 0);
    EXPECT_FALSE(mirror().is_mounted());
  }
};
INSTANTIATE_TEST_SUITE_P(Mount, StoppingTest, BothPassthroughs(), passthrough_name);

// The wait has ended with an error, whichever says that the mirror is no more.
::testing::AssertionResult wait_was_ended(Opener& opener, Millis time = kPatience) {
  static const std::set<std::string> kErrors{"ENOTCONN", "ECONNABORTED", "EINTR", "ESHUTDOWN", "EIO", "ENODEV"};
  const auto word = opener.child().hear(time);
  if (word && kErrors.contains(*word)) return ::testing::AssertionSuccess();
  return ::testing::AssertionFailure() << "the waiting open said " << word.value_or("nothing");
}

TEST_P(StoppingTest, SignalWithNothingOpenEndsTheDaemonAtOnce) {
  for (const int number : {SIGTERM, SIGINT, SIGHUP}) {
    SCOPED_TRACE(number);
    mount();
    EXPECT_TRUE(in_child([&] { EXPECT_EQ(read_file(mnt("f")), "contents"); }));
    const Stopwatch watch;
    ::kill(mirror().daemon(), number);
    expect_clean_end();
    EXPECT_LT(watch.elapsed(), scaled(Millis(1000)));
    unmount();
  }
}

TEST_P(StoppingTest, SignalEndsWaitsAtOnceAndServesOpenFilesForTheirTime) {
  mount({.options = {"stop_timeout=1500"}});
  Opener holder(mnt("f"), O_RDWR);
  ASSERT_TRUE(holder.opens());
  Opener waiter(mnt("f"), O_RDONLY);
  ASSERT_TRUE(mirror().waits(waiter.pid()));
  const Stopwatch watch;
  ::kill(mirror().daemon(), SIGTERM);
  EXPECT_TRUE(wait_was_ended(waiter));
  EXPECT_LT(watch.elapsed(), scaled(Millis(1000)));
  EXPECT_TRUE(eventually([&] { return !mirror().is_mounted(); }));
  // Still served, and still locked.
  EXPECT_TRUE(mirror().daemon_runs());
  EXPECT_TRUE(holder.write("CONTENTS"));
  EXPECT_EQ(holder.contents(), "CONTENTS");
  EXPECT_EQ(source_lock(source("f")), LockSeen::kExclusive);
  EXPECT_EQ(mirror().daemon_exit(), 0);
  EXPECT_GE(watch.elapsed(), Millis(1400));
  EXPECT_LT(watch.elapsed(), Millis(1500) + scaled(Millis(1500)));
  EXPECT_TRUE(becomes_free(source("f")));
  EXPECT_EQ(read_file(source("f")), "CONTENTS");
}

TEST_P(StoppingTest, WhatIsCutIsCountedInTheLog) {
  mount({.options = {"stop_timeout=100"}});
  Opener first(mnt("f"), O_RDONLY);
  Opener second(mnt("f"), O_RDONLY);
  Opener third(mnt("g"), O_RDWR);
  ASSERT_TRUE(first.opens() && second.opens() && third.opens());
  ::kill(mirror().daemon(), SIGTERM);
  EXPECT_EQ(mirror().daemon_exit(), 0);
  ASSERT_EQ(log().count({.event = "cut"}), 1u) << log().text();
  EXPECT_EQ(log().matching({.event = "cut"}).front().get("open_files"), "3");
  EXPECT_EQ(log().matching({.event = "cut"}).front().get("mapped_files"), "0");
}

TEST_P(StoppingTest, NothingCutIsNotLogged) {
  mount();
  EXPECT_TRUE(in_child([&] { EXPECT_EQ(read_file(mnt("f")), "contents"); }));
  ::kill(mirror().daemon(), SIGTERM);
  expect_clean_end();
  EXPECT_EQ(log().count({.event = "cut"}), 0u) << log().text();
}

// With passthrough the kernel has given up a file at its close, though it is still mapped; its lock is cut all the
// same.
TEST_P(StoppingTest, FileThatIsOnlyMappedAnyMoreIsCountedToo) {
  mount({.options = {"stop_timeout=100"}});
  Opener opener(mnt("g"), O_RDWR);
  ASSERT_TRUE(opener.opens());
  Child child([&](Peer& test) {
    UniqueFd fd = open_file(mnt("f"), O_RDONLY);
    ASSERT_NE(::mmap(nullptr, 4096, PROT_READ, MAP_SHARED, fd.get(), 0), MAP_FAILED);
    fd.reset();
    test.say("mapped");
    test.await("end");
  });
  ASSERT_TRUE(child.says("mapped"));
  // The RELEASE, if there is one, was queued by the close, and is answered.
  EXPECT_TRUE(eventually([&] { return requests_waiting(mirror().connection()).value_or(0) == 0; }));
  ::kill(mirror().daemon(), SIGTERM);
  EXPECT_EQ(mirror().daemon_exit(), 0);
  ASSERT_EQ(log().count({.event = "cut"}), 1u) << log().text();
  const LogEntry cut = log().matching({.event = "cut"}).front();
  const bool passed_through = log().matching({.event = "mounted"}).front().get("passthrough") == "on";
  EXPECT_EQ(cut.get("open_files"), passed_through ? "1" : "2") << log().text();
  EXPECT_EQ(cut.get("mapped_files"), passed_through ? "1" : "0") << log().text();
  EXPECT_TRUE(becomes_free(source("f")));
  child.say("end");
}

TEST_P(StoppingTest, DaemonEndsEarlyWhenTheLastFileIsClosed) {
  mount({.options = {"stop_timeout=60s"}});
  Opener holder(mnt("f"), O_RDWR);
  ASSERT_TRUE(holder.opens());
  ::kill(mirror().daemon(), SIGTERM);
  EXPECT_TRUE(eventually([&] { return !mirror().is_mounted(); }));
  EXPECT_TRUE(mirror().daemon_runs());
  holder.close();
  const Stopwatch watch;
  expect_clean_end();
  EXPECT_LT(watch.elapsed(), scaled(Millis(1500)));
}

TEST_P(StoppingTest, SecondSignalDoesNoHarm) {
  mount({.options = {"stop_timeout=500"}});
  Opener holder(mnt("f"), O_RDWR);
  ASSERT_TRUE(holder.opens());
  ::kill(mirror().daemon(), SIGTERM);
  EXPECT_TRUE(eventually([&] { return !mirror().is_mounted(); }));
  ::kill(mirror().daemon(), SIGTERM);
  ::kill(mirror().daemon(), SIGINT);
  EXPECT_EQ(mirror().daemon_exit(), 0);
}

TEST_P(StoppingTest, UnmountIsRefusedWhileAnOpenWaitsAndHarmsNothing) {
  mount();
  ForeignLock foreign(source("f"), LOCK_EX);
  Opener waiter(mnt("f"), O_RDWR);
  ASSERT_TRUE(mirror().waits(waiter.pid()));
  EXPECT_EQ(mirror().unmount(), EBUSY);
  EXPECT_TRUE(waiter.is_waiting());
  foreign.release();
  ASSERT_TRUE(waiter.opens());
  EXPECT_EQ(mirror().unmount(), EBUSY);
  EXPECT_TRUE(waiter.write("CONTENTS"));
  waiter.close();
  EXPECT_EQ(mirror().unmount(), 0);
  expect_clean_end();
}

TEST_P(StoppingTest, ForcedUnmountEndsAllWaits) {
  mount();
  ForeignLock foreign(source("f"), LOCK_EX);
  Opener first(mnt("f"), O_RDWR);
  Opener second(mnt("f"), O_RDONLY);
  ASSERT_TRUE(mirror().waits_for(source("f"), 2));
  (void)mirror().unmount(MNT_FORCE);  // EBUSY for the mount itself while the openers have not yet gone
  EXPECT_TRUE(wait_was_ended(first, Millis(1000)));
  EXPECT_TRUE(wait_was_ended(second, Millis(1000)));
  (void)mirror().unmount(MNT_FORCE);
  EXPECT_EQ(mirror().daemon_exit(), 0);
  foreign.release();
  EXPECT_TRUE(becomes_free(source("f")));
}

TEST_P(StoppingTest, ForcedUnmountFreesTheLocksOfOpenFiles) {
  mount();
  Opener holder(mnt("f"), O_RDWR);
  ASSERT_TRUE(holder.opens());
  (void)mirror().unmount(MNT_FORCE);
  EXPECT_EQ(mirror().daemon_exit(), 0);
  EXPECT_TRUE(becomes_free(source("f")));
}

TEST_P(StoppingTest, LazyUnmountEndsWaitsAndServesOpenFilesUntilTheirClose) {
  mount({.options = {"stop_timeout=100"}});  // which is not for this
  ForeignLock foreign(source("g"), LOCK_EX);
  Opener holder(mnt("f"), O_RDWR);
  ASSERT_TRUE(holder.opens());
  Opener waiter(mnt("g"), O_RDWR);
  ASSERT_TRUE(mirror().waits(waiter.pid()));
  EXPECT_EQ(mirror().unmount(MNT_DETACH), 0);
  EXPECT_TRUE(waiter.fails_with(ENOTCONN));
  pause_for(Millis(500));
  EXPECT_TRUE(mirror().daemon_runs());
  EXPECT_TRUE(holder.write("CONTENTS"));
  EXPECT_EQ(holder.contents(), "CONTENTS");
  EXPECT_EQ(source_lock(source("f")), LockSeen::kExclusive);
  holder.close();
  expect_clean_end();
  EXPECT_TRUE(becomes_free(source("f")));
}

TEST_P(StoppingTest, LazyUnmountWithNothingOpenEndsTheDaemon) {
  mount();
  EXPECT_EQ(mirror().unmount(MNT_DETACH), 0);
  expect_clean_end();
}

// Whoever has it as a working directory can still try to open files there.
TEST_P(StoppingTest, OpenThatWouldWaitAfterALazyUnmountFails) {
  mount();
  ForeignLock foreign(source("f"), LOCK_EX);
  Child inside([&](Peer& test) {
    const UniqueFd dir = open_file(mnt(), O_RDONLY | O_DIRECTORY);
    test.say("in");
    test.await("open");
    const int fd = ::openat(dir.get(), "f", O_RDWR | O_CLOEXEC);
    test.say(fd >= 0 ? "open" : errno_name(errno));
  });
  ASSERT_TRUE(inside.says("in"));
  EXPECT_EQ(mirror().unmount(MNT_DETACH), 0);
  pause_for(Millis(300));
  inside.say("open");
  EXPECT_TRUE(inside.says("ENOTCONN"));
  EXPECT_TRUE(inside.ends_well());
  foreign.release();
  expect_clean_end();
}

TEST_P(StoppingTest, DeathOfTheDaemonFreesTheLocksAndEndsTheWaits) {
  mount();
  Opener holder(mnt("f"), O_RDWR);
  ASSERT_TRUE(holder.opens());
  Opener waiter(mnt("f"), O_RDWR);
  ASSERT_TRUE(mirror().waits(waiter.pid()));
  ::kill(mirror().daemon(), SIGKILL);
  const auto status = mirror().daemon_exit();
  ASSERT_TRUE(status);
  EXPECT_EQ(describe_status(*status), "signal 9");
  EXPECT_TRUE(becomes_free(source("f")));
  EXPECT_TRUE(wait_was_ended(waiter));
}

// Mappings end with the daemon, too: the kernel keeps a passthrough mapping alive, but no lock may hang on it.
TEST_P(StoppingTest, StopWithALivingMappingEndsInTime) {
  mount({.options = {"stop_timeout=200"}});
  Child child([&](Peer& test) {
    UniqueFd fd = open_file(mnt("f"), O_RDONLY);
    const void* map = ::mmap(nullptr, 4096, PROT_READ, MAP_SHARED, fd.get(), 0);
    ASSERT_NE(map, MAP_FAILED);
    fd.reset();
    test.say("mapped");
    test.await("end");
  });
  ASSERT_TRUE(child.says("mapped"));
  ::kill(mirror().daemon(), SIGTERM);
  EXPECT_EQ(mirror().daemon_exit(), 0);
  EXPECT_TRUE(becomes_free(source("f")));
  child.say("end");
  EXPECT_TRUE(child.ends_well());
}

TEST_P(StoppingTest, StopWithManyWaitsEndsThemAll) {
  mount();
  ForeignLock foreign(source("f"), LOCK_EX);
  Crowd crowd(200, [&](int) { return open_error(mnt("f"), O_RDWR) == 0 ? 1 : 0; });
  ASSERT_TRUE(mirror().waits_for(source("f"), 200));
  ::kill(mirror().daemon(), SIGTERM);
  EXPECT_TRUE(crowd.all_succeed());  // each with an error, none with the lock
  expect_clean_end();
  EXPECT_TRUE(has_flocks(source("f"), 1));
}

}  // namespace
}  // namespace flockfs::test
