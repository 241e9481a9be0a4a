#pragma once

#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/stat.h>

#include <atomic>
#include <cerrno>
#include <chrono>
#include <condition_variable>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "base/sanitized.h"
#include "lock/lock_engine.h"

namespace flockfs::test {

using std::chrono::milliseconds;
using std::chrono::seconds;

// Longest time that anything in these tests may take; sanitizers on a busy machine are slow.
constexpr seconds kDeadline{20};

// How many times longer things take under a sanitizer.
constexpr int kSlower = kSanitized ? 10 : 1;

// Polls until the condition holds; false at the deadline.
template <typename Condition>
[[nodiscard]] bool eventually(const Condition& condition, milliseconds within = kDeadline) {
  const auto end = std::chrono::steady_clock::now() + within;
  while (!condition()) {
    if (std::chrono::steady_clock::now() > end) return false;
    std::this_thread::sleep_for(milliseconds(1));
  }
  return true;
}

class FakeClock final : public Clock {
 public:
  [[nodiscard]] TimePoint now() const override { return TimePoint(Duration(now_.load())); }
  void advance(Duration by) { now_ += by.count(); }

 private:
  std::atomic<Duration::rep> now_{Duration(std::chrono::hours(1)).count()};
};

// The files' locks, and whoever holds them outside. Thread-safe.
class FakeLocker final : public FileLocker {
 public:
  int try_lock(int fd, LockMode mode) override {
    run_hook(on_try, fd);
    const std::lock_guard<std::mutex> lock(mutex_);
    ++tries;
    const int error = take(fd, mode);
    if (error == 0) {
      order.push_back(fd);
    }
    return error;
  }

  // Ends by a signal as flock(2) does.
  int wait_lock(int fd, LockMode mode) override {
    ++blocking;
    int error = 0;
    while (true) {
      {
        const std::lock_guard<std::mutex> lock(mutex_);
        error = take(fd, mode);
        if (error == 0) order.push_back(fd);
      }
      if (error != EWOULDBLOCK) break;
      if (poll(nullptr, 0, 1) != 0 && errno == EINTR && !deaf) {
        error = EINTR;
        break;
      }
    }
    run_hook(after_wait, fd);
    --blocking;
    return error;
  }

  int unlock(int fd) override {
    run_hook(on_unlock, fd);
    const std::lock_guard<std::mutex> lock(mutex_);
    EXPECT_EQ(held_.erase(fd), 1U) << "unlocked what was not locked";
    return 0;
  }

  // As flock(2) converts: what was held goes, and is taken back.
  Conversion upgrade(int held, int /*fresh*/, LockMode from) override {
    if (from == LockMode::kExclusive) return Conversion::kDone;
    run_hook(on_upgrade, held);
    const std::lock_guard<std::mutex> lock(mutex_);
    ++upgrades;
    EXPECT_EQ(held_.count(held), 1U) << "upgrades what is not held";
    held_.erase(held);
    if (taken_meanwhile) return Conversion::kLost;
    if (!reader_outside && take(held, LockMode::kExclusive) == 0) return Conversion::kDone;
    held_[held] = LockMode::kShared;
    return Conversion::kRefused;
  }
  FileLocker* flock_part() override { return this; }
  int downgrade(int fd) override {
    const std::lock_guard<std::mutex> lock(mutex_);
    EXPECT_EQ(held_.count(fd), 1U) << "downgrades what is not held";
    held_[fd] = LockMode::kShared;
    return 0;
  }

  [[nodiscard]] bool minds(ForeignLockKind kind) const override { return kind == ForeignLockKind::kFlock; }

  [[nodiscard]] bool holds(LockMode mode) const {
    const std::lock_guard<std::mutex> lock(mutex_);
    for (const auto& [fd, held] : held_) {
      if (held == mode) return true;
    }
    return false;
  }
  void hold_outside(bool held) {
    const std::lock_guard<std::mutex> lock(mutex_);
    outside_ = held;
  }
  void fail_with(int error) {
    const std::lock_guard<std::mutex> lock(mutex_);
    failure_ = error;
  }
  [[nodiscard]] std::size_t held() const {
    const std::lock_guard<std::mutex> lock(mutex_);
    return held_.size();
  }

  // Called once each.
  std::function<void(int)> on_try;  // before the kernel decides
  std::function<void(int)> on_upgrade;
  std::function<void(int)> on_unlock;
  std::function<void(int)> after_wait;  // before wait_lock() returns
  std::atomic<bool> deaf{false};        // signals do not end wait_lock(): the lock was granted first
  std::atomic<int> blocking{0};         // threads in wait_lock()
  std::atomic<int> tries{0};
  std::atomic<int> upgrades{0};
  std::atomic<bool> reader_outside{false};   // has a shared lock
  std::atomic<bool> taken_meanwhile{false};  // a writer outside slips into an upgrade
  std::vector<int> order;                    // of granting; read when quiet

 private:
  int take(int fd, LockMode mode) {
    if (failure_ != 0) return failure_;
    if (outside_) return EWOULDBLOCK;
    for (const auto& [other, other_mode] : held_) {
      if (file_of(other) != file_of(fd)) continue;
      if (mode == LockMode::kExclusive || other_mode == LockMode::kExclusive) return EWOULDBLOCK;
    }
    held_[fd] = mode;
    return 0;
  }

  // Tests use one device for each file.
  static dev_t file_of(int fd) {
    struct stat st {};
    fstat(fd, &st);
    return st.st_rdev;
  }

  void run_hook(std::function<void(int)>& hook, int fd) {
    std::function<void(int)> once;
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      once = std::exchange(hook, {});
    }
    if (once) once(fd);
  }

  mutable std::mutex mutex_;
  std::map<int, LockMode> held_;
  bool outside_ = false;
  int failure_ = 0;
};

class FakeProbe final : public SignalProbe {
 public:
  bool must_end(pid_t /*tid*/) override {
    ++looks;
    return ending;
  }
  std::atomic<bool> ending{false};
  std::atomic<int> looks{0};
};

class FakeForeignLocks final : public ForeignLocks {
 public:
  bool for_each(const std::function<void(const ForeignLock&)>& visit) override {
    ++readings;
    if (while_reading) std::exchange(while_reading, {})();
    for (const ForeignLock& lock : locks) visit(lock);
    return true;
  }
  std::optional<FileId> listed_as(int /*fd*/) override { return listed; }

  std::vector<ForeignLock> locks;  // change only while nothing reads
  std::optional<FileId> listed;
  std::function<void()> while_reading;  // called once
  std::atomic<int> readings{0};
};

// What the processes of a test have open. Thread-safe.
class FakeHolderProbe final : public HolderProbe {
 public:
  std::optional<Holding> holding(pid_t process, const FileId& file) override {
    return look<Holding>(process, [&] { return holdings_[{process, file}]; });
  }
  std::optional<std::map<FileNumber, Holding>> holdings(pid_t process) override {
    return look<std::map<FileNumber, Holding>>(process, [&] {
      std::map<FileNumber, Holding> all;
      for (const auto& [key, holding] : holdings_) {
        if (key.first == process) all[key.second.ino] = holding;
      }
      return all;
    });
  }
  FileNumber number_of(const FileId& file) override { return file.ino; }
  std::optional<ProcessState> state(pid_t process) override {
    const std::lock_guard<std::mutex> lock(mutex_);
    const auto found = threads_.find(process);
    return ProcessState{found == threads_.end() ? 1 : found->second, alarms_.contains(process)};
  }
  void set(pid_t process, const FileId& file, std::size_t descriptions, bool mapped = false) {
    const std::lock_guard<std::mutex> lock(mutex_);
    holdings_[{process, file}] = {descriptions, mapped, false};
  }
  void set_in_doubt(pid_t process, const FileId& file) {
    const std::lock_guard<std::mutex> lock(mutex_);
    holdings_[{process, file}] = {1, false, true};
  }
  void set_threads(pid_t process, std::size_t count) {
    const std::lock_guard<std::mutex> lock(mutex_);
    threads_[process] = count;
  }
  // `after` is called once, before what is seen next of this process is used.
  void after_next_look(pid_t process, std::function<void()> after) {
    const std::lock_guard<std::mutex> lock(mutex_);
    looked_at_ = process;
    after_look_ = std::move(after);
  }
  void catch_alarm(pid_t process) {
    const std::lock_guard<std::mutex> lock(mutex_);
    alarms_.insert(process);
  }
  std::atomic<int> looks{0};

 private:
  template <typename Seen, typename Look>
  Seen look(pid_t process, Look look) {
    ++looks;
    Seen seen;
    std::function<void()> after;
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      seen = look();
      if (process == looked_at_) after = std::exchange(after_look_, {});
    }
    if (after) after();
    return seen;
  }

  std::mutex mutex_;
  pid_t looked_at_ = 0;
  std::function<void()> after_look_;
  std::map<std::pair<pid_t, FileId>, Holding> holdings_;
  std::map<pid_t, std::size_t> threads_;
  std::set<pid_t> alarms_;
};

// What a waiter was told.
struct Told {
  std::atomic<int> times{0};
  std::atomic<WaitId> id{0};
  // Valid once times is 1.
  WaitEnd end = WaitEnd::kFailed;
  int error = 0;
  Duration waited{};
  bool gave_up = false;
  Hold hold;
  std::atomic<int> suspected{0};
  std::atomic<int> waits{0};

  [[nodiscard]] bool told() const { return times.load() > 0; }
  [[nodiscard]] bool granted() const { return told() && end == WaitEnd::kGranted; }
};

class TestWaiter final : public LockWaiter {
 public:
  explicit TestWaiter(std::shared_ptr<Told> told) : told_(std::move(told)) {}
  ~TestWaiter() override { EXPECT_EQ(told_->times.load(), 1) << "told not exactly once"; }

  void on_parked(WaitId id) override {
    EXPECT_FALSE(told_->told());
    told_->id = id;
    if (when_parked) when_parked(id);
  }
  void on_wait() override {
    EXPECT_FALSE(told_->told()) << "told of the wait after its end";
    EXPECT_EQ(++told_->waits, 1);
    if (when_waiting) when_waiting();
    EXPECT_FALSE(told_->told()) << "told of the end while being told of the wait";
  }
  void on_outcome(LockOutcome outcome) override {
    told_->end = outcome.end;
    told_->error = outcome.error;
    told_->waited = outcome.waited;
    told_->hold = std::move(outcome.hold);
    told_->gave_up = outcome.gave_up;
    EXPECT_TRUE(!told_->hold.valid() || told_->end == WaitEnd::kGranted);
    ++told_->times;
    if (when_told) when_told(*told_);
  }

  void on_long_wait(Duration waited, const std::vector<Blocker>& blockers) override {
    EXPECT_GE(waited, kLongWait);
    if (when_long) when_long(blockers);
  }
  void on_possible_deadlock(const std::vector<pid_t>& /*processes*/) override { ++told_->suspected; }

  std::function<void(WaitId)> when_parked;
  std::function<void()> when_waiting;
  std::function<void(const std::vector<Blocker>&)> when_long;
  std::function<void(Told&)> when_told;

 private:
  std::shared_ptr<Told> told_;
};

inline UniqueFd some_fd(const char* path = "/dev/null") {
  UniqueFd fd(open(path, O_RDONLY | O_CLOEXEC));
  EXPECT_TRUE(fd.valid());
  return fd;
}

}  // namespace flockfs::test
