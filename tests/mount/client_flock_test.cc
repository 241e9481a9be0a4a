// DESIGN 1.9: flock(2) calls that clients make in the mirror act on the source file, on top of the lock of the open.

#include <fcntl.h>
#include <sys/file.h>
#include <sys/time.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <string>

#include "harness/descriptor_passing.h"
#include "harness/mirror_test.h"

namespace flockfs::test {
namespace {

int flock_error(int fd, int operation) { return ::flock(fd, operation) == 0 ? 0 : errno; }

class ClientFlockTest : public PassthroughTest {
 protected:
  void SetUp() override { write_file(source("f"), "contents"); }

  // Opens for reading and makes the calls that it is told.
  Child caller(int flags = O_RDONLY) {
    return Child([=, this](Peer& test) {
      struct sigaction nothing {};
      nothing.sa_handler = [](int) {};
      ::sigaction(SIGALRM, &nothing, nullptr);
      const UniqueFd fd = open_file(mnt("f"), flags);
      test.say("open");
      for (;;) {
        const std::string word = test.hear();
        if (word == "end") return;
        test.say(std::to_string(flock_error(fd.get(), std::stoi(word))));
      }
    });
  }
  static ::testing::AssertionResult gives(Child& child, int operation, int error) {
    child.say(std::to_string(operation));
    return child.says(std::to_string(error));
  }
};
INSTANTIATE_TEST_SUITE_P(Mount, ClientFlockTest, BothPassthroughs(), passthrough_name);

TEST_P(ClientFlockTest, ExclusiveActsOnTheSourceAndUnlockGoesBackToTheOpens) {
  mount();
  Child reader = caller();
  ASSERT_TRUE(reader.says("open"));
  EXPECT_EQ(source_lock(source("f")), LockSeen::kShared);
  EXPECT_TRUE(gives(reader, LOCK_EX, 0));
  EXPECT_EQ(source_lock(source("f")), LockSeen::kExclusive);
  EXPECT_TRUE(gives(reader, LOCK_UN, 0));
  EXPECT_EQ(source_lock(source("f")), LockSeen::kShared);
  EXPECT_TRUE(gives(reader, LOCK_EX, 0));
  EXPECT_TRUE(gives(reader, LOCK_SH, 0));
  EXPECT_EQ(source_lock(source("f")), LockSeen::kShared);
  reader.say("end");
  EXPECT_TRUE(reader.ends_well());
  EXPECT_TRUE(becomes_free(source("f")));
}

TEST_P(ClientFlockTest, WriterStaysExclusive) {
  mount();
  Child writer = caller(O_RDWR);
  ASSERT_TRUE(writer.says("open"));
  for (const int operation : {LOCK_SH, LOCK_UN, LOCK_EX, LOCK_UN}) {
    EXPECT_TRUE(gives(writer, operation, 0));
    EXPECT_EQ(source_lock(source("f")), LockSeen::kExclusive);
  }
}

TEST_P(ClientFlockTest, ReaderOutsideRefusesATryAndHoldsUpACall) {
  mount();
  Child reader = caller();
  ASSERT_TRUE(reader.says("open"));
  ForeignLock foreign(source("f"), LOCK_SH);
  EXPECT_TRUE(gives(reader, LOCK_EX | LOCK_NB, EWOULDBLOCK));
  reader.say(std::to_string(LOCK_EX));
  EXPECT_TRUE(reader.silent(Millis(200)));
  foreign.release();
  EXPECT_TRUE(reader.says("0"));
  EXPECT_EQ(source_lock(source("f")), LockSeen::kExclusive);
}

TEST_P(ClientFlockTest, TwoWhoWantItExclusivelyGetItInTurn) {
  mount();
  Child one = caller();
  Child two = caller();
  ASSERT_TRUE(one.says("open"));
  ASSERT_TRUE(two.says("open"));
  EXPECT_TRUE(gives(one, LOCK_EX | LOCK_NB, EWOULDBLOCK));
  one.say(std::to_string(LOCK_EX));
  EXPECT_TRUE(mirror().waits(one.pid()));
  // As soon as the one that waits in flock(2) has given its own up, which comes after the line of the log.
  EXPECT_TRUE(eventually([&]() -> bool { return gives(two, LOCK_EX | LOCK_NB, 0); }));
  EXPECT_TRUE(one.silent());
  two.say("end");
  EXPECT_TRUE(one.says("0"));
  EXPECT_TRUE(eventually([&] { return log().count({.event = "lapsed"}) == 1; }));
}

TEST_P(ClientFlockTest, CallThatWaitsCanBeInterruptedAndKilled) {
  mount();
  Child one = caller();
  Child two = caller();
  ASSERT_TRUE(one.says("open"));
  ASSERT_TRUE(two.says("open"));
  one.say(std::to_string(LOCK_EX));
  ASSERT_TRUE(mirror().waits(one.pid()));
  one.signal(SIGSTOP);
  one.signal(SIGCONT);
  EXPECT_TRUE(one.silent(Millis(200))) << "ended by a stop";
  one.signal(SIGALRM);
  EXPECT_TRUE(one.says(std::to_string(EINTR)));
  two.say("end");
  EXPECT_TRUE(two.ends_well());
  EXPECT_TRUE(becomes(source("f"), LockSeen::kShared)) << "the lock of the open is back";
  Child three = caller();
  ASSERT_TRUE(three.says("open"));
  one.say(std::to_string(LOCK_EX));
  EXPECT_TRUE(log().count({.event = "wait"}) >= 2 || mirror().waits(one.pid()));
  one.signal(SIGKILL);
  EXPECT_TRUE(one.killed_by(SIGKILL));
  three.say("end");
  EXPECT_TRUE(three.ends_well());
  EXPECT_TRUE(becomes_free(source("f")));
}

// Somebody's open is being asked for in the kernel when the shared lock is taken back.
TEST_P(ClientFlockTest, ProcessThatLostPatienceWithACallCanStillOpenForWriting) {
  mount();
  Child reader([&](Peer& test) {
    struct sigaction nothing {};
    nothing.sa_handler = [](int) {};
    ::sigaction(SIGALRM, &nothing, nullptr);
    const UniqueFd fd = open_file(mnt("f"), O_RDONLY);
    test.say("open");
    test.await("lock");
    test.say(std::to_string(flock_error(fd.get(), LOCK_EX)));
    test.await("open again");
    test.say(std::to_string(open_error(mnt("f"), O_RDWR)));
    test.await("end");
  });
  ASSERT_TRUE(reader.says("open"));
  ForeignLock foreign(source("f"), LOCK_SH);
  Opener writer(mnt("f"), O_RDWR);
  ASSERT_TRUE(mirror().waits(writer.pid()));
  reader.say("lock");
  ASSERT_TRUE(has_flocks(source("f"), 1, 1)) << "the writer is asked for once the reader's lock is given up";
  reader.signal(SIGALRM);
  ASSERT_TRUE(reader.says(std::to_string(EINTR)));
  reader.say("open again");
  ASSERT_TRUE(mirror().waits_for(source("f"), 3));
  foreign.release();
  EXPECT_TRUE(reader.says("0"));
  EXPECT_TRUE(writer.is_waiting());
  reader.say("end");
  EXPECT_TRUE(reader.ends_well());
  EXPECT_TRUE(writer.opens());
}

TEST_P(ClientFlockTest, OpensOfOneProcessExcludeOneAnother) {
  mount();
  EXPECT_TRUE(in_child([&] {
    const UniqueFd one = open_file(mnt("f"), O_RDWR);
    const UniqueFd two = open_file(mnt("f"), O_RDWR);
    EXPECT_EQ(flock_error(one.get(), LOCK_EX), 0);
    EXPECT_EQ(flock_error(two.get(), LOCK_SH | LOCK_NB), EWOULDBLOCK);
    EXPECT_EQ(flock_error(one.get(), LOCK_UN), 0);
    EXPECT_EQ(flock_error(two.get(), LOCK_EX | LOCK_NB), 0);
  }));
}

// Each of the opens has a lock of its own; what is waited for goes with the whole of it.
TEST_P(ClientFlockTest, CallThatWaitsForAnotherOpenOfItsProcessGetsItsTurnAtTheEndOfThat) {
  mount();
  SocketPair sockets;
  Child keeper([&](Peer& test) {
    const UniqueFd kept = receive_descriptor(sockets.second());
    test.say("has it");
    test.await("close");
  });
  Child opener([&](Peer& test) {
    UniqueFd given = open_file(mnt("f"), O_RDONLY);
    ASSERT_EQ(flock_error(given.get(), LOCK_SH), 0);
    ASSERT_TRUE(send_descriptor(sockets.first(), given.get()));
    given.reset();
    const UniqueFd own = open_file(mnt("f"), O_RDONLY);
    test.await("lock");
    test.say(std::to_string(flock_error(own.get(), LOCK_EX)));
  });
  ASSERT_TRUE(keeper.says("has it"));
  opener.say("lock");
  ASSERT_TRUE(mirror().waits_for(source("f")));
  EXPECT_TRUE(opener.silent(Millis(50)));
  keeper.say("close");
  EXPECT_TRUE(keeper.ends_well());
  EXPECT_TRUE(opener.says("0"));
}

TEST_P(ClientFlockTest, SharedByForkAndFreedByTheLastClose) {
  mount();
  Child parent([&](Peer& test) {
    UniqueFd fd = open_file(mnt("f"), O_RDONLY);
    ASSERT_EQ(flock_error(fd.get(), LOCK_EX), 0);
    Child keeper([&](Peer& above) { above.await("close"); });
    fd.reset();
    test.say("closed");
    test.await("close");
    keeper.say("close");
    EXPECT_TRUE(keeper.ends_well());
  });
  ASSERT_TRUE(parent.says("closed"));
  EXPECT_EQ(source_lock(source("f")), LockSeen::kExclusive);
  parent.say("close");
  EXPECT_TRUE(parent.ends_well());
  EXPECT_TRUE(becomes_free(source("f")));
}

// Where the open holds no flock: the file is passed by the filter, or the opens' locks are of another kind.
TEST_P(ClientFlockTest, StandsAloneWhereTheOpenHoldsNoFlock) {
  for (const char* const option : {"exclude=f", "lock=ofd"}) {
    mount({.options = {option}});
    Child one = caller();
    ASSERT_TRUE(one.says("open"));
    EXPECT_EQ(source_lock(source("f")), LockSeen::kFree) << option;
    EXPECT_TRUE(gives(one, LOCK_SH, 0));
    EXPECT_EQ(source_lock(source("f")), LockSeen::kShared);
    EXPECT_TRUE(gives(one, LOCK_EX, 0));
    EXPECT_EQ(source_lock(source("f")), LockSeen::kExclusive);
    Child two = caller();
    ASSERT_TRUE(two.says("open"));
    EXPECT_TRUE(gives(two, LOCK_SH | LOCK_NB, EWOULDBLOCK));
    two.say(std::to_string(LOCK_SH));
    EXPECT_TRUE(two.silent(Millis(100)));
    EXPECT_TRUE(gives(one, LOCK_UN, 0));
    EXPECT_TRUE(two.says("0"));
    EXPECT_EQ(source_lock(source("f")), LockSeen::kShared);
    two.say("end");
    EXPECT_TRUE(two.ends_well());
    EXPECT_TRUE(becomes_free(source("f")));
    one.say("end");
    EXPECT_TRUE(one.ends_well());
    unmount();
  }
}

TEST_P(ClientFlockTest, StopEndsACallThatWaits) {
  mount({.options = {"stop_timeout=0"}});
  Child one = caller();
  Child two = caller();
  ASSERT_TRUE(one.says("open"));
  ASSERT_TRUE(two.says("open"));
  one.say(std::to_string(LOCK_EX));
  ASSERT_TRUE(mirror().waits(one.pid()));
  ASSERT_EQ(::kill(mirror().daemon(), SIGTERM), 0);
  EXPECT_TRUE(one.says(std::to_string(ENOTCONN)));
  const auto status = mirror().daemon_exit();
  EXPECT_TRUE(status.has_value());
}

}  // namespace
}  // namespace flockfs::test
