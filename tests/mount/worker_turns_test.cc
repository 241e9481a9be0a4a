// How many of the daemon's threads take requests (src/mirror/request_queue.h).

#include <fcntl.h>
#include <sched.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstdint>
#include <filesystem>
#include <sstream>
#include <string>
#include <thread>

#include "harness/connection.h"
#include "harness/crowd.h"
#include "harness/failing_fs.h"
#include "harness/mirror_test.h"

namespace flockfs::test {
namespace {

constexpr int kWorkers = 8;
// Of them, how many take requests at least while those keep coming.
constexpr int kFewest = 2;

// One request.
int ask(const std::string& path) {
  struct statx st {};
  return ::statx(AT_FDCWD, path.c_str(), AT_STATX_FORCE_SYNC, STATX_SIZE, &st) == 0 ? 0 : errno;
}

class WorkerTurnsTest : public MirrorTest {
 protected:
  void SetUp() override {
    cpu_set_t processors;
    ASSERT_EQ(::sched_getaffinity(0, sizeof processors, &processors), 0);
    if (CPU_COUNT(&processors) == 1) GTEST_SKIP() << "on one processor all take requests";
    make_dir(source("slow"));
    write_file(source("f"), "");
  }

  void start() {
    mount({.options = {"threads=" + std::to_string(kWorkers), "attr_timeout=3600", "entry_timeout=3600"}});
  }

  // How many of the workers sleep in this system call.
  [[nodiscard]] int sleeping_in(long call) {
    int count = 0;
    for (const auto& task :
         std::filesystem::directory_iterator("/proc/" + std::to_string(mirror().daemon()) + "/task")) {
      if (read_file(task.path() / "comm") != "flockfs-worker\n") continue;
      std::istringstream line(read_file(task.path() / "syscall"));  // or "running"
      long number = -1;
      if (line >> number && number == call) ++count;
    }
    return count;
  }
  [[nodiscard]] bool become_idle() {
    return eventually([&] { return sleeping_in(SYS_read) == kWorkers; });
  }
  [[nodiscard]] bool stand_by() {
    return eventually([&] { return sleeping_in(SYS_futex) == kWorkers - kFewest; });
  }

  // A client that asks for one thing after the other until it is told to end.
  [[nodiscard]] Child busy_client() {
    return Child([this](Peer& test) {
      std::thread asking([this] {
        while (!enough_) ASSERT_EQ(ask(mnt("f")), 0);
      });
      test.await("end");
      enough_ = true;
      asking.join();
    });
  }

 private:
  std::atomic<bool> enough_{false};  // of the client's process
};

TEST_F(WorkerTurnsTest, TwoTakeRequestsWhileTheyKeepComingAndAllWhenNoneCome) {
  start();
  ASSERT_TRUE(become_idle());
  for (int round = 0; round < 2; ++round) {
    Child client = busy_client();
    EXPECT_TRUE(stand_by());
    client.say("end");
    EXPECT_TRUE(client.ends_well());
    EXPECT_TRUE(become_idle());
  }
}

// Those who take them look for the next one meanwhile, on one processor or another.
TEST_F(WorkerTurnsTest, HardlyAnybodySleepsWhileRequestsKeepComing) {
  constexpr int kRequests = 10'000;
  start();
  ASSERT_TRUE(become_idle());
  EXPECT_TRUE(eventually([&] {
    const std::uint64_t before = mirror().sleeps_of("flockfs-worker");
    EXPECT_TRUE(in_child([&] {
      for (int i = 0; i < kRequests; ++i) ASSERT_EQ(ask(mnt("f")), 0);
    }));
    return mirror().sleeps_of("flockfs-worker") - before < kRequests / 4;
  }));
}

// As many as there are threads, but for one.
TEST_F(WorkerTurnsTest, RequestsThatGetNoAnswerKeepNobodyElse) {
  FailingFs slow(source("slow"));
  start();
  EXPECT_TRUE(in_child([&] { EXPECT_EQ(ask(mnt("slow/f")), 0); }));
  Child client = busy_client();
  ASSERT_TRUE(stand_by());
  slow.stop();
  Crowd crowd(kWorkers - 1, [&](int) { return ask(mnt("slow/f")); });
  EXPECT_TRUE(eventually([&] { return requests_waiting(mirror().connection()).value_or(0) >= kWorkers - 1; }));
  client.say("end");
  EXPECT_TRUE(client.ends_well());
  EXPECT_TRUE(in_child([&] { EXPECT_EQ(ask(mnt("f")), 0); }));
  EXPECT_EQ(crowd.finished(), 0);
  slow.go_on();
  EXPECT_TRUE(crowd.all_succeed());
  EXPECT_TRUE(become_idle());
}

TEST_F(WorkerTurnsTest, EndsWhileSomeStandBy) {
  start();
  Child client([this](Peer& test) {
    test.say("asks");
    while (ask(mnt("f")) == 0) {
    }
  });
  EXPECT_TRUE(client.says("asks"));
  ASSERT_TRUE(stand_by());
  ASSERT_EQ(::kill(mirror().daemon(), SIGTERM), 0);
  EXPECT_EQ(mirror().daemon_exit(), 0);
  EXPECT_TRUE(client.ends_well());
}

}  // namespace
}  // namespace flockfs::test
