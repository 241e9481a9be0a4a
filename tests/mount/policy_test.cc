// DESIGN 1.8: timeout, on_timeout, nonblock; waits that last.

#include <fcntl.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/sysinfo.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <string>
#include <tuple>
#include <vector>

#include "harness/lease.h"
#include "harness/mirror_test.h"

namespace flockfs::test {
namespace {

class PolicyTest : public PassthroughTest {
 protected:
  void SetUp() override { write_file(source("f"), "contents"); }
};
INSTANTIATE_TEST_SUITE_P(Mount, PolicyTest, BothPassthroughs(), passthrough_name);

TEST_P(PolicyTest, TimeoutEndsAWaitWithEagain) {
  mount({.options = {"timeout=300"}});
  const ForeignLock foreign(source("f"), LOCK_EX);
  for (const int flags : {O_RDONLY, O_RDWR | O_TRUNC}) {
    const Stopwatch watch;
    Opener opener(mnt("f"), flags);
    EXPECT_TRUE(opener.fails_with(EAGAIN));
    EXPECT_GE(watch.elapsed(), Millis(300));
    const auto entry = log().wait_for({.event = "timeout", .path = source("f"), .pid = opener.pid()});
    ASSERT_TRUE(entry) << log().text();
    EXPECT_GE(std::stod(entry->get("wait_ms")), 300.0);
  }
  EXPECT_EQ(read_file(source("f")), "contents");
  EXPECT_TRUE(has_flocks(source("f"), 1));
}

TEST_P(PolicyTest, LockThatComesInTimeIsTaken) {
  mount({.options = {"timeout=1min"}});
  ForeignLock foreign(source("f"), LOCK_EX);
  Opener opener(mnt("f"), O_RDWR);
  ASSERT_TRUE(mirror().waits(opener.pid()));
  foreign.release();
  ASSERT_TRUE(opener.opens());
  opener.close();
}

// Nobody who waits behind the one whose time is over is passed over or forgotten.
TEST_P(PolicyTest, TimeoutOfTheFirstInTheQueueLetsTheNextOneIn) {
  mount({.options = {"timeout=2s"}});
  Opener holder(mnt("f"), O_RDONLY);
  ASSERT_TRUE(holder.opens());
  Opener writer(mnt("f"), O_RDWR);
  ASSERT_TRUE(mirror().waits(writer.pid()));
  pause_for(Millis(1000));
  Opener reader(mnt("f"), O_RDONLY);  // compatible with the holder, but the writer came first
  ASSERT_TRUE(mirror().waits(reader.pid()));
  EXPECT_TRUE(writer.fails_with(EAGAIN));
  EXPECT_TRUE(reader.opens());
  reader.close();
  holder.close();
}

TEST_P(PolicyTest, ZeroTriesOnce) {
  mount({.options = {"timeout=0"}});
  {
    const ForeignLock foreign(source("f"), LOCK_SH);
    Opener writer(mnt("f"), O_RDWR);
    EXPECT_TRUE(writer.fails_with(EAGAIN));
    Opener reader(mnt("f"), O_RDONLY);
    EXPECT_TRUE(reader.opens());
    reader.close();
  }
  Opener holder(mnt("f"), O_RDWR);
  ASSERT_TRUE(holder.opens());
  Opener reader(mnt("f"), O_RDONLY);
  EXPECT_TRUE(reader.fails_with(EAGAIN));
  holder.close();
  EXPECT_TRUE(log().wait_for_count({.event = "timeout"}, 2)) << log().text();
  EXPECT_EQ(log().count({.event = "wait"}), 0u) << log().text();
}

TEST_P(PolicyTest, OnTimeoutUnlockedOpensWithoutALockAndSaysSo) {
  mount({.options = {"timeout=100", "on_timeout=unlocked"}});
  const ForeignLock foreign(source("f"), LOCK_EX);
  Opener opener(mnt("f"), O_RDWR);
  ASSERT_TRUE(opener.opens());
  EXPECT_EQ(opener.contents(), "contents");
  EXPECT_TRUE(opener.write("CON"));
  EXPECT_TRUE(has_flocks(source("f"), 1));  // that of the test
  opener.close();
  EXPECT_EQ(read_file(source("f")), "CONtents");
  EXPECT_TRUE(log().wait_for({.event = "unlocked", .path = source("f"), .pid = opener.pid(), .reason = "timeout"}))
      << log().text();
  EXPECT_EQ(log().count({.event = "unlock", .pid = opener.pid()}), 0u);
}

TEST_P(PolicyTest, NonblockingOpenWaitsUnlessItShallTry) {
  mount();
  ForeignLock foreign(source("f"), LOCK_EX);
  Opener opener(mnt("f"), O_RDONLY | O_NONBLOCK);
  ASSERT_TRUE(mirror().waits(opener.pid()));
  foreign.release();
  EXPECT_TRUE(opener.opens());
  opener.close();
}

TEST_P(PolicyTest, NonblockTryMeansIt) {
  mount({.options = {"nonblock=try"}});
  ForeignLock foreign(source("f"), LOCK_EX);
  Opener trying(mnt("f"), O_RDONLY | O_NONBLOCK);
  EXPECT_TRUE(trying.fails_with(EAGAIN));
  Opener waiting(mnt("f"), O_RDONLY);
  ASSERT_TRUE(mirror().waits(waiting.pid()));
  foreign.release();
  EXPECT_TRUE(waiting.opens());
  Opener free(mnt("f"), O_RDONLY | O_NONBLOCK);
  EXPECT_TRUE(free.opens());
  free.close();
  waiting.close();
}

TEST_P(PolicyTest, TimeoutHoldsForALeaseToo) {
  mount({.options = {"timeout=300"}});
  Child holder = lease_holder(source("f"));
  ASSERT_TRUE(holder.says("leased"));
  Opener opener(mnt("f"), O_RDONLY);
  EXPECT_TRUE(opener.fails_with(EAGAIN));
  EXPECT_TRUE(log().wait_for({.event = "timeout", .path = source("f"), .pid = opener.pid()})) << log().text();
  holder.say("give way");
  EXPECT_TRUE(holder.ends_well());
}

// The wait and its end, with whom it was for, for those who log warnings only.
TEST_P(PolicyTest, LongWaitIsWarnedOfWithWhoBlocks) {
  mount({.options = {"log_level=warning"}});
  Opener holder(mnt("f"), O_RDONLY);
  ASSERT_TRUE(holder.opens());
  ForeignLock foreign(source("f"), LOCK_SH);
  Opener writer(mnt("f"), O_RDWR);
  const auto entry = log().wait_for({.event = "wait", .path = source("f"), .pid = writer.pid()}, Millis(15000));
  ASSERT_TRUE(entry) << log().text();
  EXPECT_GE(std::stod(entry->get("wait_ms")), 10000.0);
  const std::string pids = "," + entry->get("blocked_by") + ",";
  for (const pid_t pid : {holder.pid(), ::getpid()}) {
    EXPECT_NE(pids.find("," + std::to_string(pid) + ","), std::string::npos) << entry->line;
  }
  foreign.release();
  holder.close();
  ASSERT_TRUE(writer.opens());
  EXPECT_TRUE(log().wait_for({.event = "lock", .path = source("f"), .pid = writer.pid()})) << log().text();
  writer.close();
  EXPECT_EQ(log().count({.event = "wait"}), 1u);
}

TEST_P(PolicyTest, DecisionsAreCounted) {
  mount({.options = {"timeout=0", "exclude=" + source("x")}});
  const LogReader lines = log();
  write_file(source("x"), "passed");
  EXPECT_TRUE(in_child([&] {
    EXPECT_EQ(read_file(mnt("f")), "contents");
    EXPECT_EQ(read_file(mnt("x")), "passed");
    const ForeignLock foreign(source("f"), LOCK_EX);
    EXPECT_EQ(open_error(mnt("f"), O_RDONLY), EAGAIN);
  }));
  unmount();
  const auto entries = lines.matching({.event = "unmounted"});
  ASSERT_EQ(entries.size(), 1u);
  EXPECT_EQ(entries[0].get("opens"), "2");
  EXPECT_EQ(entries[0].get("locked"), "1");
  EXPECT_EQ(entries[0].get("passed"), "1");
  EXPECT_EQ(entries[0].get("timeouts"), "1");
}

// A try must not fail on a lock whose last close has returned already, on however busy a machine (DESIGN 4.7).
enum class Machine { kIdle, kBusy };

class CloseThenTryTest : public MirrorTest, public ::testing::WithParamInterface<std::tuple<Passthrough, Machine>> {
 protected:
  static int rounds() { return std::getenv("FLOCKFS_TEST_FULL") != nullptr ? 100'000 : 1'000; }
  static constexpr Millis kTime{600'000};

  void adapt(MirrorSetup& setup) const override {
    setup.options.push_back(PassthroughTest::passthrough_option(std::get<0>(GetParam())));
  }
  void SetUp() override {
    write_file(source("f"), std::string(4096, 'x'));
    mount({.options = {"timeout=0", "log_level=warning"}, .test_deadline = Millis(1'000'000)});
    const int burners = std::get<1>(GetParam()) == Machine::kBusy ? 2 * ::get_nprocs() : 0;
    for (int i = 0; i < burners; ++i) busy_.emplace_back([](Peer&) { burn(); });
  }
  // Two processes, each of which does its part when the other's has returned.
  static void take_turns(int count, const std::function<void(int)>& one_does,
                         const std::function<void(int)>& other_does) {
    int there[2];
    int back[2];
    ASSERT_EQ(::pipe2(there, O_CLOEXEC), 0);
    ASSERT_EQ(::pipe2(back, O_CLOEXEC), 0);
    const auto play = [&](int from, int to, bool first, const std::function<void(int)>& does) {
      char word = 'x';
      for (int round = 0; round < count; ++round) {
        if (!first || round > 0) {
          ASSERT_EQ(::read(from, &word, 1), 1);
        }
        does(round);
        if (::testing::Test::HasFailure()) return;
        const bool waited_for = first || round + 1 < count;
        if (waited_for) {
          ASSERT_EQ(::write(to, &word, 1), 1);
        }
      }
    };
    // Each keeps its own ends only: so it notices if the other has given up.
    Child one([&](Peer&) {
      for (const int fd : {there[0], back[1]}) ::close(fd);
      play(back[0], there[1], true, one_does);
    });
    Child other([&](Peer&) {
      for (const int fd : {there[1], back[0]}) ::close(fd);
      play(there[0], back[1], false, other_does);
    });
    for (const int fd : {there[0], there[1], back[0], back[1]}) ::close(fd);
    EXPECT_TRUE(one.ends_well(kTime));
    EXPECT_TRUE(other.ends_well(kTime));
  }
  void TearDown() override {
    for (Child& burner : busy_) EXPECT_TRUE(burner.silent()) << "the machine was not busy all the time";
  }

 private:
  [[noreturn]] static void burn() {
    for (std::atomic<unsigned> turn = 0;; ++turn) {
    }
  }

  std::vector<Child> busy_;
};
std::string close_then_try_name(const ::testing::TestParamInfo<CloseThenTryTest::ParamType>& info) {
  return std::string(std::get<0>(info.param) == Passthrough::kAuto ? "Passthrough" : "NoPassthrough") +
         (std::get<1>(info.param) == Machine::kBusy ? "Busy" : "");
}
INSTANTIATE_TEST_SUITE_P(Mount, CloseThenTryTest,
                         ::testing::Combine(BothPassthroughs(), ::testing::Values(Machine::kIdle, Machine::kBusy)),
                         close_then_try_name);

TEST_P(CloseThenTryTest, ByOneProcess) {
  EXPECT_TRUE(in_child(
      [&] {
        for (int round = 0; round < rounds(); ++round) {
          ASSERT_EQ(open_error(mnt("f"), round % 3 == 0 ? O_RDONLY : O_RDWR), 0) << round;
        }
      },
      kTime));
}

// Two processes, each of which goes on when the other has closed.
TEST_P(CloseThenTryTest, ByTwoProcessesInTurns) {
  take_turns(
      rounds() / 2, [&](int round) { ASSERT_EQ(open_error(mnt("f"), O_RDWR), 0) << round; },
      [&](int round) { ASSERT_EQ(open_error(mnt("f"), O_RDWR), 0) << round; });
}

// A client's flock(2) that only tries, after another's close(2).
TEST_P(CloseThenTryTest, ByFlockOfAnother) {
  UniqueFd fd;
  take_turns(
      rounds() / 4,
      [&](int round) {
        if (!fd) fd.reset(::open(mnt("f").c_str(), O_RDONLY | O_CLOEXEC));
        ASSERT_TRUE(fd);
        ASSERT_EQ(::flock(fd.get(), LOCK_EX | LOCK_NB), 0) << round << " " << errno_name(errno);
        ASSERT_EQ(::flock(fd.get(), LOCK_UN), 0);
      },
      [&](int round) { ASSERT_EQ(open_error(mnt("f"), O_RDONLY), 0) << round; });
}

// The lock of an open file description goes with its last close, like the open's.
TEST_P(CloseThenTryTest, ByRecordLocksInTurns) {
  const auto lock_and_close = [&](int round) {
    const UniqueFd fd(::open(mnt("f").c_str(), O_RDONLY | O_CLOEXEC));
    ASSERT_TRUE(fd) << round << " " << errno_name(errno);
    struct flock lock {};
    lock.l_type = F_RDLCK;
    if (round % 2 != 0) lock.l_len = 1;
    ASSERT_EQ(::fcntl(fd.get(), F_OFD_SETLK, &lock), 0) << round << " " << errno_name(errno);
  };
  take_turns(rounds() / 4, lock_and_close, [&](int round) {
    const UniqueFd fd(::open(mnt("f").c_str(), O_RDWR | O_CLOEXEC));
    ASSERT_TRUE(fd) << round << " " << errno_name(errno);
    struct flock lock {};
    lock.l_type = F_WRLCK;
    ASSERT_EQ(::fcntl(fd.get(), F_OFD_SETLK, &lock), 0) << round << " " << errno_name(errno);
  });
}

TEST_P(CloseThenTryTest, AfterMappings) {
  EXPECT_TRUE(in_child(
      [&] {
        for (int round = 0; round < rounds() / 4; ++round) {
          const UniqueFd fd(::open(mnt("f").c_str(), O_RDWR | O_CLOEXEC));
          ASSERT_TRUE(fd) << round << " " << errno_name(errno);
          void* map = ::mmap(nullptr, 4096, PROT_READ, MAP_SHARED, fd.get(), 0);
          ASSERT_NE(map, MAP_FAILED);
          ASSERT_EQ(::munmap(map, 4096), 0);
        }
      },
      kTime));
}

// The process that opened the file has closed it, another one has not: no such case.
TEST_P(CloseThenTryTest, LockThatAForkedChildStillHasIsNotForgotten) {
  int ends[2];
  ASSERT_EQ(::pipe2(ends, O_CLOEXEC), 0);
  const UniqueFd reader(ends[0]);
  UniqueFd writer(ends[1]);
  Child parent([&](Peer& test) {
    UniqueFd fd = open_file(mnt("f"), O_RDWR);
    writer.reset();
    if (::fork() == 0) {
      char byte = 0;
      (void)!::read(reader.get(), &byte, 1);  // until the test closes its end
      ::_exit(0);
    }
    fd.reset();
    test.say("closed in the parent");
    test.await("end");
  });
  ASSERT_TRUE(parent.says("closed in the parent"));
  Opener opener(mnt("f"), O_RDONLY);
  EXPECT_TRUE(opener.fails_with(EAGAIN));
  writer.reset();
  EXPECT_TRUE(becomes_free(source("f")));
  parent.say("end");
  EXPECT_TRUE(parent.ends_well());
}

}  // namespace
}  // namespace flockfs::test
