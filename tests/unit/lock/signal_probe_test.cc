#include "lock/signal_probe.h"

#include <gtest/gtest.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <string>
#include <thread>

namespace flockfs {
namespace {

constexpr std::uint64_t bit(int signal) { return std::uint64_t{1} << (signal - 1); }

constexpr std::string_view kText =
    "Name:\tcat\nState:\tD (disk sleep)\nTgid:\t77\nGroups:\t0 4 24 \nThreads:\t1\nSigQ:\t2/15018\n"
    "SigPnd:\t0000000000000100\nShdPnd:\t0000000000004000\nSigBlk:\t0000000000010000\nSigIgn:\t0000000000001000\n"
    "SigCgt:\t0000000180000002\nCapInh:\t0000000000000000\n";

TEST(SignalProbeTest, SetsAreReadFromTheText) {
  const auto sets = parse_signal_sets(kText);
  ASSERT_TRUE(sets.has_value());
  EXPECT_EQ(sets->thread_pending, bit(SIGKILL));
  EXPECT_EQ(sets->process_pending, bit(SIGTERM));
  EXPECT_EQ(sets->blocked, bit(SIGCHLD));
  EXPECT_EQ(sets->ignored, bit(SIGPIPE));
  EXPECT_EQ(sets->caught, 0x180000002U);
}

TEST(SignalProbeTest, TextWithoutAllSetsIsRefused) {
  EXPECT_FALSE(parse_signal_sets("").has_value());
  EXPECT_FALSE(parse_signal_sets("SigPnd:\t00\nShdPnd:\t00\nSigBlk:\t00\nSigIgn:\t00\n").has_value());
  EXPECT_FALSE(parse_signal_sets("SigPnd:\t00\nShdPnd:\t00\nSigBlk:\t00\nSigIgn:\t00\nSigCgt:\tx\n").has_value());
  EXPECT_FALSE(parse_signal_sets("SigPnd:\t00\nShdPnd:\t00\nSigBlk:\t00\nSigIgn:\t00\nSigCgt:").has_value());
  EXPECT_TRUE(parse_signal_sets("SigPnd:\t00\nShdPnd:\t00\nSigBlk:\t00\nSigIgn:\t00\nSigCgt:\t0").has_value());
}

TEST(SignalProbeTest, PendingSignalEndsAWaitByWhatItWouldDo) {
  SignalSets nothing;
  EXPECT_FALSE(ends_a_wait(nothing));
  for (const int fatal : {SIGKILL, SIGINT, SIGTERM, SIGQUIT, SIGHUP, SIGALRM, SIGUSR1, SIGSEGV, 34, 64}) {
    SignalSets sets;
    sets.thread_pending = bit(fatal);
    EXPECT_TRUE(ends_a_wait(sets)) << fatal;
    sets = {};
    sets.process_pending = bit(fatal);
    EXPECT_TRUE(ends_a_wait(sets)) << fatal;
  }
  for (const int harmless : {SIGCHLD, SIGURG, SIGWINCH, SIGCONT, SIGSTOP, SIGTSTP, SIGTTIN, SIGTTOU}) {
    SignalSets sets;
    sets.thread_pending = bit(harmless);
    EXPECT_FALSE(ends_a_wait(sets)) << harmless;
    sets.caught = bit(harmless);
    EXPECT_TRUE(ends_a_wait(sets)) << harmless << ": a handler runs";
    sets.blocked = bit(harmless);
    EXPECT_FALSE(ends_a_wait(sets)) << harmless << ": not now";
  }
}

TEST(SignalProbeTest, IgnoredOrBlockedSignalEndsNothing) {
  SignalSets sets;
  sets.process_pending = bit(SIGTERM);
  sets.ignored = bit(SIGTERM);
  EXPECT_FALSE(ends_a_wait(sets));
  sets.ignored = 0;
  sets.blocked = bit(SIGTERM);
  EXPECT_FALSE(ends_a_wait(sets));
}

TEST(SignalProbeTest, ZombieIsGone) {
  SignalSetsParser parser;
  parser.line("State:\tS (sleeping)");
  EXPECT_FALSE(parser.gone());
  parser.line("State:\tZ (zombie)");
  EXPECT_TRUE(parser.gone());
}

TEST(SignalProbeTest, ThreadThatCannotBeSeenMustEnd) {
  ProcSignalProbe probe;
  EXPECT_TRUE(probe.must_end(0));
  EXPECT_TRUE(probe.must_end(-1));
  EXPECT_TRUE(probe.must_end(0x7ffffff0));
}

TEST(SignalProbeTest, LivingThreadWithoutSignalsMayWait) {
  ProcSignalProbe probe;
  EXPECT_FALSE(probe.must_end(getpid()));
  EXPECT_FALSE(probe.must_end(static_cast<pid_t>(syscall(SYS_gettid))));
}

// A stopped child keeps what is sent to it pending, as a thread in an uninterruptible open(2) does.
class SignalProbeChildTest : public ::testing::Test {
 protected:
  SignalProbeChildTest() : child_(fork()) {
    // It stops itself: a sanitizer's fork() returns with all signals blocked for a moment, and a child stopped then by
    // its parent would block them for good.
    if (child_ == 0) {
      raise(SIGSTOP);
      for (;;) pause();
    }
    int status = 0;
    waitpid(child_, &status, WUNTRACED);
  }
  ~SignalProbeChildTest() override {
    kill(child_, SIGKILL);
    waitpid(child_, nullptr, 0);
  }
  const pid_t child_;
  ProcSignalProbe probe_;
};

TEST_F(SignalProbeChildTest, StoppedMayWaitAndPendingTermMustEnd) {
  EXPECT_FALSE(probe_.must_end(child_));
  kill(child_, SIGCHLD);
  EXPECT_FALSE(probe_.must_end(child_));
  kill(child_, SIGTERM);
  // A child that is only just stopping dies of it instead; in between it has no signal pending and is no zombie yet.
  bool must_end = false;
  for (int i = 0; i < 5000 && !must_end; ++i) {
    must_end = probe_.must_end(child_);
    if (!must_end) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  EXPECT_TRUE(must_end);
}

TEST_F(SignalProbeChildTest, ZombieMustEnd) {
  kill(child_, SIGKILL);
  siginfo_t info{};
  waitid(P_PID, static_cast<id_t>(child_), &info, WEXITED | WNOWAIT);
  EXPECT_TRUE(probe_.must_end(child_));
}

}  // namespace
}  // namespace flockfs
