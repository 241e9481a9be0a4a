// DESIGN 1.5 and 4.3 where a client does not wait in open(2) for a lock: truncate(2) by path, files with a lease; and
// clients that are killed in the middle of anything. They leave no lock, file, descriptor or thread behind.

#include <fcntl.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <memory>
#include <optional>
#include <string>

#include "harness/connection.h"
#include "harness/crowd.h"
#include "harness/faults.h"
#include "harness/lease.h"
#include "harness/mirror_test.h"

namespace flockfs::test {
namespace {

constexpr Millis kLook{250};  // several of the daemon's looks at the signals of a waiting thread, one each 50 ms

void catch_signal(int number, int flags) {
  struct sigaction action {};
  action.sa_handler = [](int) {};
  action.sa_flags = flags;
  ASSERT_EQ(::sigaction(number, &action, nullptr), 0);
}

enum class Wait { kTruncateLocked, kTruncateLeased, kOpenLeased };

// truncate(2) waits for five seconds at most: each of these tests has to be done by then, however slow the daemon.
class SignalledWaitTest : public MirrorTest, public ::testing::WithParamInterface<Wait> {
 protected:
  void SetUp() override {
    write_file(source("f"), "contents");
    mount();
    EXPECT_TRUE(in_child([&] { EXPECT_EQ(read_file(mnt("f")), "contents"); }));
    EXPECT_TRUE(becomes_free(source("f")));
    descriptors_ = mirror().descriptors();
    if (GetParam() == Wait::kTruncateLocked) {
      foreign_ = std::make_unique<ForeignLock>(source("f"), LOCK_SH);
    } else {
      lease_.emplace(lease_holder(source("f")));
      ASSERT_TRUE(lease_->says("leased"));
    }
  }

  // A child that prepares itself, waits in the system call in question, and says how that ended.
  Child waiting_client(const std::function<void()>& prepare = [] {}) {
    Child child([=, this](Peer& test) {
      prepare();
      test.say("start");
      const bool opens = GetParam() == Wait::kOpenLeased;
      test.say(errno_name(opens ? open_error(mnt("f"), O_RDWR) : ::truncate(mnt("f").c_str(), 4) == 0 ? 0 : errno));
    });
    EXPECT_TRUE(child.says("start"));
    EXPECT_TRUE(eventually([&] {
      return requests_waiting(mirror().connection()).value_or(1) == 1 && (!lease_ || lease_is_breaking(source("f")));
    }));
    EXPECT_TRUE(child.silent(kLook));
    return child;
  }

  // What is waited for comes about.
  void end_the_wait() {
    if (foreign_) foreign_->release();
    if (!lease_) return;
    lease_->say("give way");
    EXPECT_TRUE(lease_->says("given way"));
  }

  // After the wait was ended by a signal: the file is as it was, and so is the daemon.
  void expect_nothing_left() {
    end_the_wait();
    EXPECT_TRUE(becomes_free(source("f")));
    EXPECT_EQ(read_file(source("f")), "contents");
    EXPECT_TRUE(mirror().daemon_runs());
    EXPECT_TRUE(in_child([&] { EXPECT_EQ(::truncate(mnt("f").c_str(), 3), 0) << errno_name(errno); }));
    EXPECT_EQ(read_file(source("f")), "con");
    EXPECT_TRUE(eventually([&] { return mirror().descriptors() <= descriptors_; }))
        << mirror().descriptors() << " descriptors, " << descriptors_ << " before";
  }

  int descriptors_ = 0;
  std::unique_ptr<ForeignLock> foreign_;
  std::optional<Child> lease_;
};
INSTANTIATE_TEST_SUITE_P(Mount, SignalledWaitTest,
                         ::testing::Values(Wait::kTruncateLocked, Wait::kTruncateLeased, Wait::kOpenLeased),
                         [](const ::testing::TestParamInfo<Wait>& wait) {
                           return wait.param == Wait::kTruncateLocked   ? "TruncationOfALockedFile"
                                  : wait.param == Wait::kTruncateLeased ? "TruncationOfALeasedFile"
                                                                        : "OpenOfALeasedFile";
                         });

TEST_P(SignalledWaitTest, StopAndContinueDoNotEndIt) {
  Child client = waiting_client();
  for (int round = 0; round < 2; ++round) {
    client.signal(SIGSTOP);
    pause_for(kLook / 2);
    client.signal(SIGCONT);
  }
  EXPECT_TRUE(client.silent(kLook));
  end_the_wait();
  EXPECT_TRUE(client.says("0"));
  EXPECT_TRUE(client.ends_well());
  EXPECT_EQ(read_file(source("f")), GetParam() == Wait::kOpenLeased ? "contents" : "cont");
  EXPECT_TRUE(becomes_free(source("f")));
}

TEST_P(SignalledWaitTest, CaughtSignalIsEintrWithAndWithoutRestart) {
  for (const int flags : {0, SA_RESTART}) {
    SCOPED_TRACE(flags);
    Child client = waiting_client([=] { catch_signal(SIGUSR1, flags); });
    client.signal(SIGUSR1);
    EXPECT_TRUE(client.says("EINTR"));
    EXPECT_TRUE(client.ends_well());
  }
  expect_nothing_left();
}

// There is one INTERRUPT for each request: the stop has used it up, so the later signal has to be looked for.
TEST_P(SignalledWaitTest, CaughtSignalAfterAStopIsEintrToo) {
  Child client = waiting_client([] { catch_signal(SIGUSR1, SA_RESTART); });
  client.signal(SIGSTOP);
  pause_for(kLook / 2);
  client.signal(SIGCONT);
  EXPECT_TRUE(client.silent(kLook));
  client.signal(SIGUSR1);
  EXPECT_TRUE(client.says("EINTR"));
  expect_nothing_left();
}

TEST_P(SignalledWaitTest, KillEndsItAtOnce) {
  for (const bool stopped : {false, true}) {
    SCOPED_TRACE(stopped);
    Child client = waiting_client();
    if (stopped) client.signal(SIGSTOP);
    EXPECT_TRUE(client.silent(stopped ? kLook : Millis(0)));
    const Stopwatch watch;
    client.signal(SIGKILL);
    ASSERT_TRUE(client.killed_by(SIGKILL));
    EXPECT_LT(watch.elapsed(), scaled(Millis(200)));
  }
  expect_nothing_left();
}

constexpr int kClients = 12;

// Creates a file of its own, writes and maps it, opens a file that all share, and leaves its mark in that.
int make_a_turn(const std::string& dir, int client, unsigned turn) {
  const std::string own = dir + "/own" + std::to_string(client) + "-" + std::to_string(turn);
  UniqueFd fd(::open(own.c_str(), O_RDWR | O_CREAT | (turn % 2 == 0 ? O_EXCL : 0) | O_CLOEXEC, 0644));
  if (!fd || ::pwrite(fd.get(), "text", 4, 4092) != 4) return errno;
  void* map = ::mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd.get(), 0);
  if (map == MAP_FAILED) return errno;
  fd.reset();
  static_cast<char*>(map)[turn % 4096] = 'x';
  ::munmap(map, 4096);
  fd.reset(::open((dir + "/shared" + std::to_string(turn % 3)).c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd) return errno;
  fd.reset();
  fd.reset(::open((dir + "/shared0").c_str(), O_RDWR | O_CLOEXEC));
  if (!fd || ::pwrite(fd.get(), "x", 1, client) != 1) return errno;
  return ::unlink(own.c_str()) == 0 ? 0 : errno;
}

class KilledClientsTest : public PassthroughTest {
 protected:
  void SetUp() override {
    for (int i = 0; i < 3; ++i) write_file(source("shared" + std::to_string(i)), "");
  }

  // Lets the clients run until each has made a turn and then some time, which differs from round to round; kills them.
  void run_and_kill(int round) {
    ASSERT_EQ(::truncate(source("shared0").c_str(), 0), 0);
    Crowd crowd(kClients, [&](int client) {
      int error = 0;
      for (unsigned turn = 0; error == 0; ++turn) error = make_a_turn(mnt(), client, turn);
      return error;
    });
    EXPECT_TRUE(eventually([&] { return read_file(source("shared0")) == std::string(kClients, 'x'); }, kPatience * 2));
    pause_for(Millis(3 * round));
    crowd.signal(SIGKILL);
    ASSERT_TRUE(crowd.all_gone());
    EXPECT_EQ(crowd.finished(), 0) << "somebody's call has failed";
  }

  // What the killed have left are ordinary files under the names they had chosen, and no lock on any.
  void expect_ordinary_files() {
    EXPECT_TRUE(eventually([&] {
      const auto names = list_dir(source());
      return std::all_of(names.begin(), names.end(),
                         [](const std::string& name) { return name.starts_with("own") || name.starts_with("shared"); });
    })) << ::testing::PrintToString(list_dir(source()));
    for (const std::string& name : list_dir(source())) {
      EXPECT_TRUE(becomes_free(source(name)));
      if (name.starts_with("own")) {
        EXPECT_EQ(::unlink(source(name).c_str()), 0);
      }
    }
  }

  void kill_clients_again_and_again() {
    EXPECT_TRUE(in_child([&] { EXPECT_EQ(make_a_turn(mnt(), 0, 0), 0); }));
    const int threads = mirror().threads();
    const int descriptors = mirror().descriptors();
    for (int round = 0; round < 20 && !HasFailure(); ++round) {
      SCOPED_TRACE(round);
      run_and_kill(round);
      expect_ordinary_files();
    }
    EXPECT_TRUE(eventually([&] { return mirror().descriptors() <= descriptors; }))
        << mirror().descriptors() << " descriptors, " << descriptors << " before";
    EXPECT_TRUE(eventually([&] { return mirror().threads() <= threads; }, kPatience * 2))
        << mirror().threads() << " threads, " << threads << " before";
  }
};
INSTANTIATE_TEST_SUITE_P(Mount, KilledClientsTest, BothPassthroughs(), passthrough_name);

TEST_P(KilledClientsTest, LeaveNothingWhateverTheyWereAt) {
  mount({.options = {"log_level=info"}});
  kill_clients_again_and_again();
}

// Without O_TMPFILE a new file has a hidden name until it is locked.
TEST_P(KilledClientsTest, LeaveNoHiddenNameWhereThereIsNoTmpfile) {
  MirrorSetup setup{.options = {"log_level=info"}};
  setup.program.before_exec = make_tmpfile_fail;
  mount(setup);
  kill_clients_again_and_again();
}

}  // namespace
}  // namespace flockfs::test
