// DESIGN 1.9: waiting for record locks (F_SETLKW): from inside and outside, its interruption, and its end with the
// mirror.

#include <fcntl.h>
#include <sys/mount.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "harness/crowd.h"
#include "harness/program.h"
#include "record_lock_fixture.h"

namespace flockfs::test {
namespace {

using RecordLockWaitTest = RecordLockFixture;
INSTANTIATE_TEST_SUITE_P(Mount, RecordLockWaitTest, BothPassthroughs(), passthrough_name);

TEST_P(RecordLockWaitTest, WaitGetsTheLockFromInsideAndOutside) {
  for (const bool inside : {true, false}) {
    for (const RecordKind kind : {kPosix, kOfd}) {
      RecordClient holder;
      RecordClient waiter;
      const int held = holder.open(inside ? mnt("f") : source("f"), O_RDWR);
      ASSERT_EQ(holder.set(held, F_WRLCK, {0, 10}, kind), 0);
      const int fd = waiter.open(mnt("f"), O_RDWR);
      waiter.begin_wait(fd, F_WRLCK, {5, 10}, kind);
      ASSERT_TRUE(record_waiters(source("f"), 1));
      EXPECT_TRUE(waiter.is_waiting());
      ASSERT_EQ(holder.set(held, F_UNLCK, {5, 5}, kind), 0);
      ASSERT_TRUE(waiter.wait_ends());
      EXPECT_FALSE(record_is_free(source("f"), F_RDLCK, {14, 1}));
      EXPECT_FALSE(record_is_free(source("f"), F_RDLCK, {4, 1}));
      EXPECT_EQ(holder.set(held, F_RDLCK, {5, 1}, kind), EAGAIN);
    }
    EXPECT_TRUE(record_becomes_free(source("f")));
  }
}

// Somebody on the source waits for a client of the mirror.
TEST_P(RecordLockWaitTest, SourceWaitsForTheMirror) {
  RecordClient holder;
  RecordClient waiter;
  const int held = holder.open(mnt("f"), O_RDWR);
  ASSERT_EQ(holder.set(held, F_WRLCK), 0);
  waiter.begin_wait(waiter.open(source("f"), O_RDWR), F_RDLCK, {50, 1});
  ASSERT_TRUE(record_waiters(source("f"), 1));
  ASSERT_EQ(holder.set(held, F_UNLCK), 0);
  EXPECT_TRUE(waiter.wait_ends());
}

TEST_P(RecordLockWaitTest, WaiterCanBeKilled) {
  ForeignRecord foreign(source("f"), F_WRLCK);
  RecordClient warm;
  const int descriptors = mirror().descriptors();
  for (const int number : {SIGKILL, SIGTERM}) {
    constexpr int kRounds = 5;
    std::vector<Millis> times;  // a busy machine may take its time once
    for (int round = 0; round < kRounds; ++round) {
      RecordClient waiter;
      waiter.begin_wait(waiter.open(mnt("f"), O_RDWR), F_WRLCK);
      ASSERT_TRUE(record_waiters(source("f"), 1));
      const Stopwatch watch;
      waiter.child().signal(number);
      ASSERT_TRUE(waiter.child().killed_by(number));
      times.push_back(watch.elapsed());
      EXPECT_TRUE(record_waiters(source("f"), 0));
    }
    std::sort(times.begin(), times.end());
    EXPECT_LT(times[kRounds / 2], scaled(Millis(100)));
  }
  foreign.release();
  expect_nothing_left(descriptors);
}

// As fcntl(2) says: EINTR, unless the handler was set with SA_RESTART. What it held before it still holds.
TEST_P(RecordLockWaitTest, HandledSignalEndsTheWait) {
  ForeignRecord foreign(source("f"), F_WRLCK, {0, 10});
  RecordClient waiter;
  waiter.handle(SIGUSR1, false);
  waiter.handle(SIGUSR2, true);
  const int fd = waiter.open(mnt("f"), O_RDWR);
  ASSERT_EQ(waiter.set(fd, F_RDLCK, {10, 10}), 0);
  waiter.begin_wait(fd, F_WRLCK, {0, 30});
  ASSERT_TRUE(record_waiters(source("f"), 1));
  waiter.child().signal(SIGUSR1);
  EXPECT_TRUE(waiter.wait_ends(EINTR));
  EXPECT_TRUE(record_is_free(source("f"), F_RDLCK, {10, 10}));
  EXPECT_FALSE(record_is_free(source("f"), F_WRLCK, {10, 10}));
  EXPECT_TRUE(record_is_free(source("f"), F_WRLCK, {20, 0}));
  waiter.begin_wait(fd, F_WRLCK, {0, 30});
  ASSERT_TRUE(record_waiters(source("f"), 1));
  waiter.child().signal(SIGUSR2);
  pause_for(kLook);
  EXPECT_TRUE(waiter.is_waiting());
  foreign.release();
  EXPECT_TRUE(waiter.wait_ends());
}

TEST_P(RecordLockWaitTest, StopContinueAndIgnoredSignalsDoNotEndTheWait) {
  ForeignRecord foreign(source("f"), F_WRLCK);
  RecordClient waiter;
  waiter.begin_wait(waiter.open(mnt("f"), O_RDWR), F_WRLCK);
  ASSERT_TRUE(record_waiters(source("f"), 1));
  for (const int number : {SIGWINCH, SIGCHLD, SIGURG}) waiter.child().signal(number);
  for (int round = 0; round < 3; ++round) {
    waiter.child().signal(SIGSTOP);
    pause_for(kLook / 4);
    waiter.child().signal(SIGCONT);
  }
  pause_for(kLook);
  EXPECT_TRUE(waiter.is_waiting());
  foreign.release();
  EXPECT_TRUE(waiter.wait_ends());
}

TEST_P(RecordLockWaitTest, WaitGoesOnUnderADebugger) {
  if (find_program("strace").empty()) GTEST_SKIP() << "no strace here";
  ForeignRecord foreign(source("f"), F_WRLCK);
  RecordClient waiter;
  waiter.begin_wait(waiter.open(mnt("f"), O_RDWR), F_WRLCK);
  ASSERT_TRUE(record_waiters(source("f"), 1));
  Program strace({"strace", "-p", std::to_string(waiter.pid())});
  ASSERT_TRUE(eventually([&] { return strace.err().find("attached") != std::string::npos; })) << strace.err();
  pause_for(kLook);
  strace.process().signal(SIGINT);
  (void)strace.exit_code();
  EXPECT_TRUE(waiter.is_waiting());
  foreign.release();
  EXPECT_TRUE(waiter.wait_ends());
}

// More than there are FUSE workers, and more than may have a thread each.
TEST_P(RecordLockWaitTest, HundredsOfWaitersHarmNobody) {
  const int descriptors = mirror().descriptors();
  const int threads = mirror().threads();
  ForeignRecord foreign(source("f"), F_WRLCK);
  {
    Crowd crowd(300, [&](int) {
      const UniqueFd fd = open_file(mnt("f"), O_RDWR);
      return set_record(fd.get(), F_WRLCK, {}, kPosix, true);
    });
    ASSERT_TRUE(record_waiters(source("f"), 256));
    const Stopwatch watch;
    EXPECT_TRUE(in_child([&] {
      write_file(mnt("new"), "contents");
      EXPECT_EQ(read_file(mnt("new")), "contents");
      const UniqueFd fd = open_file(mnt("new"), O_RDWR);
      EXPECT_EQ(set_record(fd.get(), F_WRLCK), 0);
    }));
    EXPECT_LT(watch.elapsed(), scaled(Millis(1000)));
    foreign.release();
    EXPECT_TRUE(crowd.all_succeed());
  }
  expect_nothing_left(descriptors);
  EXPECT_TRUE(eventually([&] { return mirror().threads() <= threads; }, kPatience * 2))
      << mirror().threads() << " threads, " << threads << " before";
}

TEST_P(RecordLockWaitTest, HundredWaitersKilledAtOnceAllEnd) {
  const int descriptors = mirror().descriptors();
  ForeignRecord foreign(source("f"), F_WRLCK);
  Crowd crowd(100, [&](int) {
    const UniqueFd fd = open_file(mnt("f"), O_RDWR);
    return set_record(fd.get(), F_WRLCK, {}, kPosix, true);
  });
  ASSERT_TRUE(record_waiters(source("f"), 100));
  const Stopwatch watch;
  crowd.signal(SIGKILL);
  ASSERT_TRUE(crowd.all_gone());
  EXPECT_LT(watch.elapsed(), scaled(Millis(1000)));
  foreign.release();
  expect_nothing_left(descriptors);
}

::testing::AssertionResult wait_was_ended(RecordClient& waiter) {
  static const std::set<int> kErrors{ENOTCONN, ECONNABORTED, EIO};
  const auto word = waiter.child().hear();
  if (word && kErrors.contains(std::stoi(*word))) return ::testing::AssertionSuccess();
  return ::testing::AssertionFailure() << "the wait ended with " << word.value_or("nothing");
}

TEST_P(RecordLockWaitTest, TheEndOfTheMirrorEndsWaits) {
  ForeignRecord foreign(source("f"), F_WRLCK);
  for (const bool by_signal : {true, false}) {
    if (!by_signal) {
      unmount();
      mount({.options = {"exclude=f", "stop_timeout=200"}});
    }
    RecordClient holder;
    ASSERT_EQ(holder.open(mnt("f"), O_RDWR) < 0, false);
    RecordClient waiter;
    waiter.begin_wait(waiter.open(mnt("f"), O_RDWR), F_WRLCK);
    ASSERT_TRUE(record_waiters(source("f"), 1));
    if (by_signal) {
      ::kill(mirror().daemon(), SIGTERM);
    } else {
      (void)mirror().unmount(MNT_FORCE);
    }
    EXPECT_TRUE(wait_was_ended(waiter));
    EXPECT_EQ(mirror().daemon_exit(), 0);
    EXPECT_TRUE(record_waiters(source("f"), 0));
  }
}

TEST_P(RecordLockWaitTest, LazyUnmountEndsWaitsAndServesLocksUntilTheClose) {
  ForeignRecord foreign(source("f"), F_WRLCK, {0, 10});
  RecordClient client;
  const int fd = client.open(mnt("f"), O_RDWR);
  client.begin_wait(fd, F_WRLCK);
  ASSERT_TRUE(record_waiters(source("f"), 1));
  EXPECT_EQ(mirror().unmount(MNT_DETACH), 0);
  EXPECT_TRUE(client.wait_ends(ENOTCONN));
  EXPECT_EQ(client.set(fd, F_WRLCK, {10, 10}), 0);
  EXPECT_FALSE(record_is_free(source("f"), F_WRLCK, {10, 10}));
  client.close(fd);
  EXPECT_EQ(mirror().daemon_exit(), 0);
  EXPECT_TRUE(record_becomes_free(source("f"), F_WRLCK, {10, 10}));
}

// As the kernel has it: POSIX locks only, and only for the one who would close the circle.
TEST_P(RecordLockWaitTest, ProcessesThatWouldWaitForEachOtherGetEdeadlk) {
  for (const int size : {2, 3}) {
    std::vector<std::unique_ptr<RecordClient>> clients;
    std::vector<int> fds;
    for (off_t i = 0; i < size; ++i) {
      clients.push_back(std::make_unique<RecordClient>());
      fds.push_back(clients.back()->open(mnt("f"), O_RDWR));
      ASSERT_EQ(clients.back()->set(fds.back(), F_WRLCK, {i, 1}), 0);
    }
    for (int i = 0; i + 1 < size; ++i) {
      clients[i]->begin_wait(fds[i], F_WRLCK, {i + 1, 1});
      ASSERT_TRUE(record_waiters(source("f"), i + 1));
    }
    RecordClient& last = *clients.back();
    last.begin_wait(fds.back(), F_RDLCK, {0, 1});
    EXPECT_TRUE(last.wait_ends(EDEADLK));
    EXPECT_TRUE(record_waiters(source("f"), size - 1));
    EXPECT_FALSE(record_is_free(source("f"), F_RDLCK, {size - 1, 1}));
    last.end();
    for (int i = size - 2; i >= 0; --i) {
      EXPECT_TRUE(clients[i]->wait_ends());
      clients[i]->end();
    }
    EXPECT_TRUE(record_becomes_free(source("f")));
  }
}

TEST_P(RecordLockWaitTest, OpenFileDescriptionsThatWaitForEachOtherWait) {
  for (const RecordKind kind : {kPosix, kOfd}) {
    RecordClient one;
    RecordClient other;
    const int fd = one.open(mnt("f"), O_RDWR);
    const int other_fd = other.open(mnt("f"), O_RDWR);
    ASSERT_EQ(one.set(fd, F_WRLCK, {0, 1}, kOfd), 0);
    ASSERT_EQ(other.set(other_fd, F_WRLCK, {1, 1}, kind), 0);
    one.begin_wait(fd, F_WRLCK, {1, 1}, kOfd);
    ASSERT_TRUE(record_waiters(source("f"), 1));
    other.begin_wait(other_fd, F_WRLCK, {0, 1}, kind);
    ASSERT_TRUE(record_waiters(source("f"), 2));
    pause_for(kLook / 4);
    EXPECT_TRUE(one.is_waiting() && other.is_waiting());
    other.child().signal(SIGKILL);
    EXPECT_TRUE(one.wait_ends());
    one.end();
    EXPECT_TRUE(record_becomes_free(source("f")));
  }
}

}  // namespace
}  // namespace flockfs::test
