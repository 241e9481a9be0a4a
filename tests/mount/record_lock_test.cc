// DESIGN 1.9: applications' own fcntl(2) record locks through the mirror act on the source file, both ways, with the
// right owner, range, conversion and release.

#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <string>

#include "record_lock_fixture.h"

namespace flockfs::test {
namespace {

using RecordLockTest = RecordLockFixture;
INSTANTIATE_TEST_SUITE_P(Mount, RecordLockTest, BothPassthroughs(), passthrough_name);

TEST_P(RecordLockTest, ClientsOfTheMirrorExcludeOneAnother) {
  for (const RecordKind kind : {kPosix, kOfd}) {
    for (const RecordKind others : {kPosix, kOfd}) {
      RecordClient one;
      RecordClient other;
      const int fd = one.open(mnt("f"), O_RDWR);
      const int other_fd = other.open(mnt("f"), O_RDWR);
      EXPECT_EQ(one.set(fd, F_WRLCK, {10, 10}, kind), 0);
      EXPECT_EQ(other.set(other_fd, F_RDLCK, {0, 11}, others), EAGAIN);
      EXPECT_EQ(other.set(other_fd, F_WRLCK, {0, 10}, others), 0);
      EXPECT_EQ(other.set(other_fd, F_WRLCK, {20, 0}, others), 0);
      EXPECT_EQ(one.set(fd, F_RDLCK, {50, 1}, kind), EAGAIN);
      EXPECT_EQ(one.set(fd, F_RDLCK, {10, 10}, kind), 0);
      EXPECT_EQ(other.set(other_fd, F_RDLCK, {0, 0}, others), 0);
      EXPECT_EQ(one.set(fd, F_WRLCK, {10, 10}, kind), EAGAIN);
      one.end();
      other.end();
      EXPECT_TRUE(record_becomes_free(source("f")));
    }
  }
}

TEST_P(RecordLockTest, MirrorAndSourceExcludeEachOther) {
  for (const RecordKind kind : {kPosix, kOfd}) {
    RecordClient inside;
    RecordClient outside;
    const int in = inside.open(mnt("f"), O_RDWR);
    const int out = outside.open(source("f"), O_RDWR);
    EXPECT_EQ(inside.set(in, F_WRLCK, {0, 10}, kind), 0);
    EXPECT_EQ(outside.set(out, F_RDLCK, {9, 1}, kind), EAGAIN);
    EXPECT_EQ(outside.set(out, F_WRLCK, {10, 10}, kind), 0);
    EXPECT_EQ(inside.set(in, F_RDLCK, {0, 0}, kind), EAGAIN);
    EXPECT_EQ(outside.set(out, F_RDLCK, {10, 10}, kind), 0);
    EXPECT_EQ(inside.set(in, F_RDLCK, {0, 0}, kind), 0);
    EXPECT_EQ(outside.set(out, F_RDLCK, {0, 0}, kind), 0);
    EXPECT_EQ(inside.set(in, F_WRLCK, {0, 1}, kind), EAGAIN);
    inside.end();
    outside.end();
  }
}

TEST_P(RecordLockTest, RangesSplitConvertAndJoin) {
  RecordClient client;
  const int fd = client.open(mnt("f"), O_RDWR);
  EXPECT_EQ(client.set(fd, F_WRLCK, {0, 100}), 0);
  EXPECT_EQ(client.set(fd, F_RDLCK, {40, 20}), 0);
  EXPECT_EQ(client.set(fd, F_UNLCK, {45, 5}), 0);
  const auto seen = [&](int type, Bytes bytes) { return record_is_free(source("f"), type, bytes); };
  EXPECT_FALSE(seen(F_RDLCK, {39, 1}));
  EXPECT_TRUE(seen(F_RDLCK, {40, 20}));
  EXPECT_FALSE(seen(F_WRLCK, {44, 1}));
  EXPECT_TRUE(seen(F_WRLCK, {45, 5}));
  EXPECT_FALSE(seen(F_WRLCK, {50, 1}));
  EXPECT_FALSE(seen(F_RDLCK, {60, 1}));
  EXPECT_TRUE(seen(F_WRLCK, {100, 0}));
  client.end();
  EXPECT_TRUE(record_becomes_free(source("f")));
}

TEST_P(RecordLockTest, ProcessDoesNotExcludeItselfOverTwoOpens) {
  RecordClient client;
  const int one = client.open(mnt("f"), O_RDWR);
  const int other = client.open(mnt("f"), O_RDWR);
  EXPECT_EQ(client.set(one, F_WRLCK), 0);
  EXPECT_EQ(client.set(other, F_WRLCK), 0);
  EXPECT_EQ(client.query(other, F_WRLCK), "free");
  EXPECT_EQ(client.set(other, F_RDLCK, {}, kOfd), EAGAIN);  // this is another owner
  EXPECT_EQ(client.set(other, F_UNLCK), 0);
  EXPECT_TRUE(record_is_free(source("f")));
}

// A read lock through a descriptor for reading, then a write lock through another: nobody gets in between.
TEST_P(RecordLockTest, ReaderOfOneDescriptorBecomesWriterOfAnother) {
  for (const int writing : {O_RDWR, O_WRONLY}) {
    RecordClient client;
    RecordClient other;
    const int reader = client.open(mnt("f"), O_RDONLY);
    EXPECT_EQ(client.set(reader, F_RDLCK, {0, 10}), 0);
    EXPECT_EQ(client.set(reader, F_RDLCK, {20, 10}), 0);
    const int outside = other.open(source("f"), O_RDWR);
    other.begin_wait(outside, F_WRLCK, {25, 1});
    ASSERT_TRUE(record_waiters(source("f"), 1));
    const int writer = client.open(mnt("f"), writing);
    EXPECT_EQ(client.set(writer, F_WRLCK, {5, 10}), 0);
    EXPECT_EQ(client.set(reader, F_RDLCK, {12, 3}), 0);
    EXPECT_TRUE(other.is_waiting());
    EXPECT_FALSE(record_is_free(source("f"), F_RDLCK, {5, 1}));
    EXPECT_TRUE(record_is_free(source("f"), F_RDLCK, {12, 100}));
    EXPECT_FALSE(record_is_free(source("f"), F_WRLCK, {0, 1}));
    EXPECT_EQ(client.set(writer, F_UNLCK, {20, 10}), 0);
    EXPECT_TRUE(other.wait_ends());
    other.end();
    client.close(writer);
    EXPECT_TRUE(record_is_free(source("f")));
    client.end();
  }
}

TEST_P(RecordLockTest, ReadersKeepNobodyFromExecuting) {
  write_file(source("program"), "#!/bin/sh\nexit 7\n", 0755);
  RecordClient client;
  const int fd = client.open(mnt("program"), O_RDONLY);
  EXPECT_EQ(client.set(fd, F_RDLCK), 0);
  EXPECT_EQ(run_program({source("program")}).exit_code, 7);
  EXPECT_EQ(run_program({mnt("program")}).exit_code, 7);
}

TEST_P(RecordLockTest, ClosingAnyDescriptorFreesPosixLocksOnly) {
  RecordClient client;
  const int fd = client.open(mnt("f"), O_RDWR);
  const int other = client.open(mnt("f"), O_RDWR);
  const int copy = client.dup(fd);
  ASSERT_EQ(client.set(fd, F_WRLCK, {0, 10}), 0);
  ASSERT_EQ(client.set(fd, F_WRLCK, {50, 10}, kOfd), 0);
  client.close(other);
  EXPECT_TRUE(record_is_free(source("f"), F_WRLCK, {0, 10}));  // with the close, not some time after it
  EXPECT_FALSE(record_is_free(source("f"), F_WRLCK, {50, 10}));
  ASSERT_EQ(client.set(fd, F_WRLCK, {0, 10}), 0);
  client.close(copy);
  EXPECT_TRUE(record_is_free(source("f"), F_WRLCK, {0, 10}));
  EXPECT_FALSE(record_is_free(source("f"), F_WRLCK, {50, 10}));
  client.close(fd);
  EXPECT_TRUE(record_becomes_free(source("f")));
  client.end();
}

// The first lock on a file may come through an open that tells of no close: its RELEASE does.
TEST_P(RecordLockTest, FirstReaderOfAllIsFreedByItsClose) {
  RecordClient client;
  const int fd = client.open(mnt("f"), O_RDONLY);
  ASSERT_EQ(client.set(fd, F_RDLCK), 0);
  EXPECT_FALSE(record_is_free(source("f")));
  client.close(fd);
  EXPECT_TRUE(record_becomes_free(source("f")));
  client.end();
}

// RELEASE of such an open comes some time after its close: it must not take what has been locked through another since.
TEST_P(RecordLockTest, LateReleaseTakesNoNewerLock) {
  constexpr int kFiles = 300;
  const auto name = [](int number) { return "many/" + std::to_string(number); };
  for (int i = 0; i < kFiles; ++i) write_file(source(name(i)), "contents");
  Child child([&](Peer& test) {
    for (int i = 0; i < kFiles; ++i) {
      UniqueFd reader = open_file(mnt(name(i)), O_RDONLY);
      const UniqueFd writer = open_file(mnt(name(i)), O_RDWR);
      ASSERT_EQ(set_record(reader.get(), F_RDLCK, {0, 10}), 0);
      reader.reset();
      ASSERT_EQ(set_record(writer.get(), F_WRLCK, {0, 5}), 0);
      test.say("locked");
      test.await("next");
    }
  });
  for (int i = 0; i < kFiles; ++i) {
    ASSERT_TRUE(child.says("locked"));
    ASSERT_TRUE(record_becomes_free(source(name(i)), F_WRLCK, {5, 5}));
    ASSERT_FALSE(record_is_free(source(name(i)), F_RDLCK, {0, 5})) << i;
    child.say("next");
  }
  EXPECT_TRUE(child.ends_well());
}

TEST_P(RecordLockTest, PosixLocksAreNotInherited) {
  Child child([&](Peer& test) {
    const UniqueFd fd = open_file(mnt("f"), O_RDWR);
    ASSERT_EQ(set_record(fd.get(), F_WRLCK), 0);
    const pid_t heir = ::fork();
    if (heir == 0) {
      const bool excluded = set_record(fd.get(), F_WRLCK) == EAGAIN;
      ::close(fd.get());  // frees none of the parent's
      ::_exit(excluded ? 0 : 1);
    }
    int status = -1;
    ASSERT_EQ(::waitpid(heir, &status, 0), heir);
    EXPECT_EQ(status, 0);
    test.say("ended");
    test.await("end");
  });
  ASSERT_TRUE(child.says("ended"));
  EXPECT_FALSE(record_is_free(source("f")));
  child.say("end");
  EXPECT_TRUE(child.ends_well());
  EXPECT_TRUE(record_becomes_free(source("f")));
}

TEST_P(RecordLockTest, OfdLocksAreSharedByForkAndDupAndFreedAtTheLastClose) {
  Child child([&](Peer& test) {
    UniqueFd fd = open_file(mnt("f"), O_RDWR);
    UniqueFd copy(::dup(fd.get()));
    ASSERT_EQ(set_record(fd.get(), F_WRLCK, {}, kOfd), 0);
    if (::fork() == 0) {
      EXPECT_EQ(set_record(fd.get(), F_WRLCK, {0, 50}, kOfd), 0);
      fd.reset();
      copy.reset();
      ::_exit(0);
    }
    ASSERT_GT(::wait(nullptr), 0);
    fd.reset();
    test.say("one left");
    test.await("close");
    copy.reset();
    test.say("none left");
    test.await("end");
  });
  ASSERT_TRUE(child.says("one left"));
  pause_for(Millis(50));
  EXPECT_FALSE(record_is_free(source("f"), F_WRLCK, {0, 50}));
  EXPECT_FALSE(record_is_free(source("f"), F_WRLCK, {50, 0}));
  child.say("close");
  ASSERT_TRUE(child.says("none left"));
  EXPECT_TRUE(record_becomes_free(source("f")));
  child.say("end");
}

TEST_P(RecordLockTest, QueryNamesTheHolder) {
  RecordClient one;
  RecordClient other;
  RecordClient outside;
  const int fd = one.open(mnt("f"), O_RDWR);
  const int other_fd = other.open(mnt("f"), O_RDWR);
  const int out = outside.open(source("f"), O_RDWR);
  EXPECT_EQ(one.query(fd, F_WRLCK), "free");
  ASSERT_EQ(one.set(fd, F_WRLCK, {10, 10}), 0);
  ASSERT_EQ(one.set(fd, F_RDLCK, {40, 0}, kOfd), 0);
  ASSERT_EQ(outside.set(out, F_WRLCK, {20, 10}), 0);
  const std::string pid = std::to_string(one.pid());
  EXPECT_EQ(other.query(other_fd, F_RDLCK, {0, 15}), "write 10 10 " + pid);
  EXPECT_EQ(other.query(other_fd, F_WRLCK, {50, 1}), "read 40 0 " + pid);
  EXPECT_EQ(other.query(other_fd, F_RDLCK, {50, 1}), "free");
  EXPECT_EQ(other.query(other_fd, F_WRLCK, {25, 1}), "write 20 10 " + std::to_string(outside.pid()));
  EXPECT_EQ(one.query(fd, F_WRLCK, {10, 10}), "free");
  EXPECT_EQ(one.query(fd, F_WRLCK, {10, 10}, kOfd), "write 10 10 -1");
  // Somebody outside sees the daemon's open file description.
  EXPECT_EQ(outside.query(out, F_WRLCK, {10, 1}), "write 10 10 -1");
}

TEST_P(RecordLockTest, DeathOfTheHolderFrees) {
  for (const RecordKind kind : {kPosix, kOfd}) {
    RecordClient holder;
    RecordClient waiter;
    ASSERT_EQ(holder.set(holder.open(mnt("f"), O_RDWR), F_WRLCK, {0, 10}, kind), 0);
    waiter.begin_wait(waiter.open(mnt("f"), O_RDWR), F_WRLCK, {}, kind);
    ASSERT_TRUE(record_waiters(source("f"), 1));
    holder.child().signal(SIGKILL);
    EXPECT_TRUE(waiter.wait_ends());
    waiter.end();
    EXPECT_TRUE(record_becomes_free(source("f")));
  }
}

// Whatever the kernel has cached before.
TEST_P(RecordLockTest, LockedFileIsAsItsLastHolderLeftIt) {
  unmount();
  mount({.options = {"exclude=f", "attr_timeout=3600"}});
  Child child([&](Peer& test) {
    const UniqueFd fd = open_file(mnt("f"), O_RDWR);
    for (int round = 0; round < 50; ++round) {
      ASSERT_EQ(set_record(fd.get(), F_WRLCK), 0);
      const std::string size = std::to_string(::lseek(fd.get(), 0, SEEK_END));
      const std::string text = read_all(fd.get()).substr(0, 4);
      ASSERT_EQ(set_record(fd.get(), F_UNLCK), 0);
      test.say(size + " " + text);
      test.await("again");
    }
  });
  for (int round = 0; round < 50; ++round) {
    const auto seen = child.hear();
    ASSERT_TRUE(seen);
    const std::string text = read_file(source("f"));
    ASSERT_EQ(*seen, std::to_string(text.size()) + " " + text.substr(0, 4)) << round;
    const UniqueFd fd = open_file(source("f"), O_RDWR);
    ASSERT_EQ(set_record(fd.get(), F_WRLCK), 0);
    const std::string changed = std::to_string(1000 + round);
    ASSERT_EQ(::pwrite(fd.get(), changed.data(), 4, 0), 4);
    if (round % 2 == 0) {
      ASSERT_EQ(::ftruncate(fd.get(), 100 + round * 100), 0);
    }
    ASSERT_EQ(set_record(fd.get(), F_UNLCK), 0);
    child.say("again");
  }
  EXPECT_TRUE(child.ends_well());
}

// The lock at open is another one: unlocking records gives none of it back.
TEST_P(RecordLockTest, LockOfTheOpenStays) {
  write_file(source("g"), "contents");
  RecordClient client;
  const int fd = client.open(mnt("g"), O_RDWR);
  ASSERT_EQ(client.set(fd, F_WRLCK), 0);
  ASSERT_EQ(client.set(fd, F_UNLCK), 0);
  EXPECT_EQ(source_lock(source("g")), LockSeen::kExclusive);
  client.close(fd);
  EXPECT_TRUE(becomes_free(source("g")));
}

}  // namespace
}  // namespace flockfs::test
