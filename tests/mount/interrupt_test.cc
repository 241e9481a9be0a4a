// DESIGN 1.5 and 4.3: a waiting process can be killed and gets EINTR for a caught signal; nothing else ends a wait; and
// no ended wait leaves a lock, file or thread behind.

#include <fcntl.h>
#include <pthread.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <string>
#include <thread>

#include "harness/connection.h"
#include "harness/crowd.h"
#include "harness/mirror_test.h"
#include "harness/program.h"

namespace flockfs::test {
namespace {

constexpr Millis kLook{250};  // several of the daemon's looks at the signals of a waiting thread, one each 50 ms

extern "C" void note_signal(int) {}

void set_handler(int number, void (*handler)(int), int flags) {
  struct sigaction action {};
  action.sa_handler = handler;
  action.sa_flags = flags;
  ASSERT_EQ(::sigaction(number, &action, nullptr), 0);
}

class InterruptTest : public PassthroughTest {
 protected:
  void SetUp() override {
    write_file(source("f"), "contents");
    mount();
    foreign_ = std::make_unique<ForeignLock>(source("f"), LOCK_EX);
  }

  // A child that prepares itself and then waits in open(2) for the foreign lock.
  std::unique_ptr<Opener> waiting_opener(const std::function<void()>& prepare, int flags = O_RDWR) {
    auto opener = std::make_unique<Opener>([=, this] {
      prepare();
      return ::open(mnt("f").c_str(), flags | O_CLOEXEC, 0644);
    });
    EXPECT_TRUE(mirror().waits(opener->pid()));
    return opener;
  }

  // After the wait has been ended: the source's lock has no holder and no waiter but the test, then none at all.
  void expect_nothing_left() {
    EXPECT_TRUE(has_flocks(source("f"), 1));
    foreign_->release();
    EXPECT_TRUE(becomes_free(source("f")));
    EXPECT_TRUE(has_flocks(source("f"), 0));
    EXPECT_EQ(read_file(source("f")), "contents");
  }

  // The wait goes on, and ends well with the foreign lock.
  void expect_to_wait_on(Opener& opener) {
    pause_for(kLook);
    EXPECT_TRUE(opener.is_waiting());
    foreign_->release();
    ASSERT_TRUE(opener.opens());
    EXPECT_EQ(opener.contents(), "contents");
    opener.close();
    EXPECT_EQ(log().count({.event = "interrupted"}), 0u);
  }

  std::unique_ptr<ForeignLock> foreign_;
};
INSTANTIATE_TEST_SUITE_P(Mount, InterruptTest, BothPassthroughs(), passthrough_name);

TEST_P(InterruptTest, FatalSignalEndsTheWaiterAtOnce) {
  for (const int number : {SIGKILL, SIGINT, SIGTERM, SIGHUP, SIGPIPE}) {
    SCOPED_TRACE(number);
    const auto opener = waiting_opener([] {}, O_RDWR | O_TRUNC);
    const Stopwatch watch;
    opener->child().signal(number);
    ASSERT_TRUE(opener->child().killed_by(number));
    EXPECT_LT(watch.elapsed(), scaled(Millis(100)));
    EXPECT_TRUE(log().wait_for({.event = "interrupted", .path = source("f"), .pid = opener->pid()}));
  }
  expect_nothing_left();
}

TEST_P(InterruptTest, CaughtSignalIsEintrWithAndWithoutRestart) {
  for (const int flags : {0, SA_RESTART}) {
    SCOPED_TRACE(flags);
    const auto opener = waiting_opener([=] { set_handler(SIGUSR1, note_signal, flags); });
    opener->child().signal(SIGUSR1);
    EXPECT_TRUE(opener->fails_with(EINTR));
    EXPECT_TRUE(log().wait_for({.event = "interrupted", .path = source("f"), .pid = opener->pid()}));
  }
  expect_nothing_left();
}

TEST_P(InterruptTest, AlarmEndsTheWait) {
  const auto opener = waiting_opener([] {
    set_handler(SIGALRM, note_signal, 0);
    ::ualarm(200000, 0);
  });
  EXPECT_TRUE(opener->fails_with(EINTR));
  expect_nothing_left();
}

TEST_P(InterruptTest, SignalsThatDoNothingDoNotEndTheWait) {
  const auto opener = waiting_opener([] {
    ::signal(SIGUSR1, SIG_IGN);
    ::signal(SIGINT, SIG_IGN);
    sigset_t blocked;
    ::sigemptyset(&blocked);
    ::sigaddset(&blocked, SIGUSR2);
    ::sigprocmask(SIG_BLOCK, &blocked, nullptr);
  });
  for (const int number : {SIGUSR1, SIGINT, SIGWINCH, SIGCHLD, SIGURG, SIGUSR2}) opener->child().signal(number);
  expect_to_wait_on(*opener);
}

TEST_P(InterruptTest, StopAndContinueDoNotEndTheWait) {
  const auto opener = waiting_opener([] {});
  for (int round = 0; round < 3; ++round) {
    opener->child().signal(SIGSTOP);
    pause_for(kLook / 2);
    opener->child().signal(SIGCONT);
  }
  opener->child().signal(SIGTSTP);
  pause_for(kLook);
  opener->child().signal(SIGCONT);
  expect_to_wait_on(*opener);
}

TEST_P(InterruptTest, KillAfterAStopEndsTheWait) {
  const auto opener = waiting_opener([] {});
  opener->child().signal(SIGSTOP);
  pause_for(kLook);
  EXPECT_TRUE(opener->is_waiting());
  const Stopwatch watch;
  opener->child().signal(SIGKILL);
  ASSERT_TRUE(opener->child().killed_by(SIGKILL));
  EXPECT_LT(watch.elapsed(), scaled(Millis(200)));
  expect_nothing_left();
}

// There is one INTERRUPT for each request: the stop has used it up, so the later signal has to be looked for.
TEST_P(InterruptTest, CaughtSignalAfterAStopEndsTheWait) {
  const auto opener = waiting_opener([] { set_handler(SIGUSR1, note_signal, SA_RESTART); });
  opener->child().signal(SIGSTOP);
  pause_for(kLook);
  opener->child().signal(SIGCONT);
  pause_for(kLook);
  EXPECT_TRUE(opener->is_waiting());
  opener->child().signal(SIGUSR1);
  EXPECT_TRUE(opener->fails_with(EINTR));
  expect_nothing_left();
}

pid_t tracer_of(pid_t pid) {
  const std::string status = read_file("/proc/" + std::to_string(pid) + "/status");
  return std::stoi(status.substr(status.find("TracerPid:") + 10));
}

// Attaches strace to the process, as a person would who wonders what it does, and ends it again.
void trace_for_a_moment(pid_t pid) {
  Program strace({"strace", "-p", std::to_string(pid)});
  ASSERT_TRUE(eventually([&] { return tracer_of(pid) == strace.pid(); })) << strace.err();
  pause_for(kLook);
  strace.process().signal(SIGKILL);
  (void)strace.exit_code();
  ASSERT_TRUE(eventually([&] { return tracer_of(pid) == 0; }));
}

TEST_P(InterruptTest, DebuggerThatAttachesAndDetachesDoesNotEndTheWait) {
  if (find_program("strace").empty()) GTEST_SKIP() << "no strace here";
  const auto opener = waiting_opener([] {});
  trace_for_a_moment(opener->pid());
  expect_to_wait_on(*opener);
}

TEST_P(InterruptTest, WaitingTarSucceedsAfterStopContinueAndStrace) {
  const std::string archive = tree() / "archive.tar";
  Program tar({"tar", "-C", mnt(), "-cf", archive, "f"});
  ASSERT_TRUE(mirror().waits(tar.pid()));
  tar.process().signal(SIGSTOP);
  pause_for(kLook);
  tar.process().signal(SIGCONT);
  if (!find_program("strace").empty()) trace_for_a_moment(tar.pid());
  tar.process().signal(SIGWINCH);
  pause_for(kLook);
  EXPECT_FALSE(tar.process().poll_status());
  foreign_->release();
  EXPECT_EQ(tar.exit_code(), 0) << tar.err();
  EXPECT_EQ(run_program({"tar", "-xOf", archive}).out, "contents");
}

// A new control group (version 2), for one process that is to be frozen; invalid where none can be made.
class FreezableGroup {
 public:
  FreezableGroup() {
    for (const MountEntry& entry : mount_table()) {
      const std::string path = entry.mountpoint + "/flockfs-test-" + std::to_string(::getpid());
      if (entry.type != "cgroup2" || ::mkdir(path.c_str(), 0755) != 0) continue;
      path_ = path;
      if (exists(path_ + "/cgroup.freeze")) return;
      leave();
    }
  }
  ~FreezableGroup() { leave(); }
  FreezableGroup(const FreezableGroup&) = delete;
  FreezableGroup& operator=(const FreezableGroup&) = delete;

  [[nodiscard]] bool valid() const { return !path_.empty(); }
  void set(const std::string& file, const std::string& value) const {
    const UniqueFd fd = open_file(path_ + "/" + file, O_WRONLY);
    ASSERT_EQ(::write(fd.get(), value.data(), value.size()), static_cast<ssize_t>(value.size())) << errno_name(errno);
  }

 private:
  // Empty once its process has ended.
  void leave() {
    if (!valid()) return;
    EXPECT_TRUE(eventually([&] { return ::rmdir(path_.c_str()) == 0; })) << errno_name(errno);
    path_.clear();
  }
  std::string path_;
};

// To the kernel a freeze is a signal: that is how suspend stops every process, and systemd one of its units.
TEST_P(InterruptTest, FreezeAndThawDoNotEndTheWait) {
  const FreezableGroup group;
  if (!group.valid()) GTEST_SKIP() << "no control group of version 2 can be made here";
  const auto opener = waiting_opener([] {});
  group.set("cgroup.procs", std::to_string(opener->pid()));
  for (int round = 0; round < 2; ++round) {
    group.set("cgroup.freeze", "1");
    pause_for(kLook);
    EXPECT_TRUE(opener->is_waiting());
    group.set("cgroup.freeze", "0");
  }
  expect_to_wait_on(*opener);
}

// The lock comes free while the process is frozen: it is the process's all the same, and it goes on with it later.
TEST_P(InterruptTest, LockComesToAFrozenProcess) {
  const FreezableGroup group;
  if (!group.valid()) GTEST_SKIP() << "no control group of version 2 can be made here";
  const auto opener = waiting_opener([] {});
  group.set("cgroup.procs", std::to_string(opener->pid()));
  group.set("cgroup.freeze", "1");
  pause_for(kLook);
  foreign_->release();
  EXPECT_TRUE(becomes(source("f"), LockSeen::kExclusive));
  pause_for(kLook);
  EXPECT_TRUE(opener->is_waiting());
  group.set("cgroup.freeze", "0");
  ASSERT_TRUE(opener->opens());
  opener->close();
  EXPECT_TRUE(becomes_free(source("f")));
}

// The kernel gives the signal to the thread that wants it: the wait of the other is none of its business.
TEST_P(InterruptTest, SignalForAnotherThreadDoesNotEndTheWait) {
  const auto opener = waiting_opener([] {
    set_handler(SIGUSR1, note_signal, 0);
    static std::thread other([] {
      for (;;) ::pause();
    });
    other.detach();
    sigset_t blocked;
    ::sigemptyset(&blocked);
    ::sigaddset(&blocked, SIGUSR1);
    ::pthread_sigmask(SIG_BLOCK, &blocked, nullptr);
  });
  opener->child().signal(SIGUSR1);
  expect_to_wait_on(*opener);
}

// A process of several threads, one of which waits: the pid of the log is the process, and its death ends the wait.
TEST_P(InterruptTest, ProcessWithAWaitingThreadCanBeKilled) {
  Child child([&](Peer& test) {
    std::thread waiter([&] { (void)open_error(mnt("f"), O_RDWR); });
    test.await("never");
    waiter.join();
  });
  ASSERT_TRUE(mirror().waits(child.pid()));
  const Stopwatch watch;
  child.signal(SIGKILL);
  ASSERT_TRUE(child.killed_by(SIGKILL));
  EXPECT_LT(watch.elapsed(), scaled(Millis(100)));
  expect_nothing_left();
}

TEST_P(InterruptTest, SignalForAWaitingThreadEndsItsWaitOnly) {
  Child child([&](Peer& test) {
    set_handler(SIGUSR1, note_signal, 0);
    int first_error = -1;
    int second_error = -1;
    std::thread first([&] { first_error = open_error(mnt("f"), O_RDWR); });
    std::thread second([&] { second_error = open_error(mnt("f"), O_RDWR); });
    test.await("signal");
    ::pthread_kill(first.native_handle(), SIGUSR1);
    first.join();
    EXPECT_EQ(first_error, EINTR);
    test.say("one has ended");
    second.join();
    EXPECT_EQ(second_error, 0);
  });
  ASSERT_TRUE(log().wait_for_count({.event = "wait", .pid = child.pid()}, 2));
  child.say("signal");
  ASSERT_TRUE(child.says("one has ended"));
  pause_for(kLook);
  EXPECT_FALSE(child.poll_status());
  foreign_->release();
  EXPECT_TRUE(child.ends_well());
}

TEST_P(InterruptTest, TwoHundredWaitersKilledAtOnceAllEnd) {
  Crowd crowd(200, [&](int index) { return open_error(mnt("f"), index % 2 == 0 ? O_RDONLY : O_RDWR | O_CREAT); });
  ASSERT_TRUE(mirror().waits_for(source("f"), 200));
  const Stopwatch watch;
  crowd.signal(SIGKILL);
  ASSERT_TRUE(crowd.all_gone());
  EXPECT_LT(watch.elapsed(), scaled(Millis(1000)));
  EXPECT_EQ(crowd.finished(), 0);
  expect_nothing_left();
}

// The lock comes free at the very moment at which the waiter is killed: whoever wins, no lock stays behind.
TEST_P(InterruptTest, LockGrantedToADeadWaitIsGivenBack) {
  for (int round = 0; round < 60; ++round) {
    const auto opener = waiting_opener([] {});
    if (round % 2 == 0) {
      opener->child().signal(SIGKILL);
      foreign_->release();
    } else {
      foreign_->release();
      opener->child().signal(SIGKILL);
    }
    ASSERT_TRUE(opener->child().killed_by(SIGKILL));
    ASSERT_TRUE(becomes_free(source("f")));
    foreign_ = std::make_unique<ForeignLock>(source("f"), LOCK_EX);
  }
  expect_nothing_left();
}

}  // namespace
}  // namespace flockfs::test
