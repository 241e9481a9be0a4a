#include <fcntl.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <cstdint>
#include <string>
#include <thread>
#include <vector>

#include "base/unique_fd.h"
#include "common.h"
#include "sleeps.h"
#include "stats.h"
#include "workloads.h"

namespace flockfs::bench {
namespace {

struct Plan {
  std::string source;
  std::string file;
  std::string unrelated;
  bool shared;
  std::size_t waiters;
  std::uint64_t stats;
  pid_t daemon;
  bool own_flock;
};

// Written by one waiter, read by the parent once `granted` counts it.
struct Waiter {
  Clock::time_point granted_at;
  std::uint64_t sleeps;
};

struct Board {
  std::atomic<std::size_t> ready;
  std::atomic<std::size_t> granted;
};

std::uint64_t own_sleeps() {
  rusage usage{};
  require(::getrusage(RUSAGE_SELF, &usage) == 0, "getrusage");
  return static_cast<std::uint64_t>(usage.ru_nvcsw);
}

// Opens and so waits; keeps a shared lock until `end`'s other side is closed.
void wait_once(const Plan& plan, Board& board, Waiter& self, int end) {
  struct stat st {};
  require(::stat(plan.file.c_str(), &st) == 0, plan.file);  // the name is known: what it waits for is its open
  const std::uint64_t before = own_sleeps();
  ++board.ready;
  const UniqueFd fd(::open(plan.file.c_str(), (plan.shared ? O_RDONLY : O_WRONLY) | O_CLOEXEC));
  require(fd.valid(), plan.file);
  if (plan.own_flock) require(::flock(fd.get(), plan.shared ? LOCK_SH : LOCK_EX) == 0, "flock");
  self.granted_at = Clock::now();
  self.sleeps = own_sleeps() - before;
  ++board.granted;
  char byte = 0;
  if (plan.shared) require(::read(end, &byte, 1) == 0, "waiting for the end");
}

// All children sleep, and none has been woken between two looks at all of them.
bool settled(const std::vector<pid_t>& children, std::uint64_t& last) {
  std::uint64_t sleeps = 0;
  for (const pid_t child : children) {
    const Rest rest = rest_of(child);
    if (!rest.asleep) return false;
    sleeps += rest.sleeps;
  }
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
  return std::exchange(last, sleeps) == sleeps;
}

struct Release {
  double last_grant_ms;
  Sleeps daemon;
  Summary stat;  // while they waited
};

Release release_all(const Plan& plan, int lock, const std::vector<pid_t>& children, Board& board, Waiter* waiters) {
  wait_until("the waiters do not start", [&] { return board.ready == plan.waiters; });
  std::uint64_t sleeps = 0;
  wait_until("the waiters do not settle", [&] { return settled(children, sleeps); });
  errno = EPROTO;
  require(board.granted == 0, "an open did not wait: is there a lock?");
  Release release{0, {}, stat_latency(plan.unrelated, plan.stats)};
  const Sleeps before = sleeps_of(plan.daemon);
  const auto released = Clock::now();
  require(::flock(lock, LOCK_UN) == 0, "unlock");
  wait_until("not all waiters get their lock", [&] { return board.granted == plan.waiters; });
  const Sleeps after = sleeps_of(plan.daemon);
  release.daemon = {after.workers - before.workers, after.others - before.others};
  const auto* const last = std::max_element(
      waiters, waiters + plan.waiters, [](const Waiter& a, const Waiter& b) { return a.granted_at < b.granted_at; });
  release.last_grant_ms = std::chrono::duration<double, std::milli>(last->granted_at - released).count();
  return release;
}

double most_sleeps(const Waiter* waiters, std::size_t count) {
  const auto* const most =
      std::max_element(waiters, waiters + count, [](const Waiter& a, const Waiter& b) { return a.sleeps < b.sleeps; });
  return static_cast<double>(most->sleeps);
}

void print(const Plan& plan, const Summary& idle, const Release& release, const Waiter* waiters) {
  const auto count = static_cast<double>(plan.waiters);
  Figures()
      .add("waiters", std::uint64_t{plan.waiters})
      .add("idle_stat_us", idle.median)
      .add("idle_stat_p99_us", idle.p99)
      .add("stat_us", release.stat.median)
      .add("stat_p99_us", release.stat.p99)
      .add("last_grant_ms", release.last_grant_ms)
      .add("most_sleeps_of_a_waiter", most_sleeps(waiters, plan.waiters))
      .add("worker_wakeups_per_waiter", static_cast<double>(release.daemon.workers) / count)
      .add("other_wakeups_per_waiter", static_cast<double>(release.daemon.others) / count)
      .print();
}

}  // namespace

void waiting_opens(Arguments arguments) {
  const Plan plan{std::string(arguments[0]),
                  std::string(arguments[1]),
                  std::string(arguments[2]),
                  arguments[3] == "shared",
                  to_number(arguments[4]),
                  to_number(arguments[5]),
                  static_cast<pid_t>(to_number(arguments[6])),
                  arguments[7] == "flock"};
  const UniqueFd lock(::open(plan.source.c_str(), O_RDWR | O_CLOEXEC));
  require(lock.valid() && ::flock(lock.get(), LOCK_EX) == 0, plan.source);
  const Summary idle = stat_latency(plan.unrelated, plan.stats);

  Board& board = *shared_array<Board>(1);
  auto* const waiters = shared_array<Waiter>(plan.waiters);
  std::array<int, 2> end{};
  require(::pipe2(end.data(), O_CLOEXEC) == 0, "pipe");
  std::vector<pid_t> children;
  for (std::size_t i = 0; i < plan.waiters; ++i) {
    children.push_back(start_child([&] {
      ::close(end[1]);
      wait_once(plan, board, waiters[i], end[0]);
    }));
  }
  ::close(end[0]);
  const Release release = release_all(plan, lock.get(), children, board, waiters);
  ::close(end[1]);
  for (const pid_t child : children) expect_success(child);
  print(plan, idle, release, waiters);
}

}  // namespace flockfs::bench
