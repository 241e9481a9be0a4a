#include "mirror/lock_file_waits.h"

#include <pthread.h>

#include <algorithm>
#include <chrono>
#include <system_error>

#include "base/signals_blocked.h"

namespace flockfs {
namespace {

// There is one INTERRUPT for a request, and it need not be for a signal that ends the wait: look again this often.
constexpr auto kLookAgain = std::chrono::milliseconds(50);
// How long the look at the deadline may take before the wait ends without it.
constexpr auto kLastLook = std::chrono::milliseconds(50);
// Jobs at a time. A source that does not answer holds up those who wait for it, and not the pool.
constexpr unsigned kMostJobs = 4;

}  // namespace

// Guarded by LockFileWaits::mutex_ but for what is constant.
struct LockFileWaits::Wait {
  Wait(Id id_in, Wanted wanted_in, Done done_in, std::function<void()> on_long_in)
      : id(id_in),
        wanted(std::move(wanted_in)),
        backoff(wanted.backoff),
        done(std::move(done_in)),
        on_long(std::move(on_long_in)) {}
  const Id id;
  const Wanted wanted;
  LockFileBackoff backoff;
  Done done;                      // empty once somebody has taken the duty to call it
  std::function<void()> on_long;  // empty once it has been called
  bool arranged = false;          // until then nobody but wait() may call `done`
  bool looking = false;           // in looks_, or in the hands of a job
  TimePoint look_at;
  std::optional<TimePoint> signals_at;  // interrupted: when to look at the thread's signals
  std::optional<TimePoint> over_at;     // the deadline has passed, and the last look is being made
  TimePoint due = TimePoint::max();     // its place in due_; max: it has none
};

LockFileWaits::LockFileWaits(BlockingPool& pool, SignalProbe& probe, const LockFiles& files)
    : pool_(pool), probe_(probe), files_(files), random_(std::random_device{}()) {}

LockFileWaits::~LockFileWaits() { end(); }

Status LockFileWaits::start() {
  const SignalsBlocked blocked;
  try {
    thread_ = std::thread([this] { run(); });
  } catch (const std::system_error& error) {
    return Error{error.code().value(), "cannot start a thread"};
  }
  return {};
}

void LockFileWaits::wait(Wanted wanted, const std::function<void(Id)>& arrange, Done done,
                         std::function<void()> on_long) {
  WaitPtr wait;
  {
    MutexLock lock(mutex_);
    wait = std::make_shared<Wait>(++last_id_, std::move(wanted), std::move(done), std::move(on_long));
    waits_.emplace(wait->id, wait);
  }
  arrange(wait->id);
  MutexLock lock(mutex_);
  wait->arranged = true;
  if (stopped_) {
    lock.unlock();
    finish(wait, End::kStopped);
    return;
  }
  wait->look_at = wait->backoff.next_look(now(), wait->wanted.deadline, static_cast<std::uint32_t>(random_()));
  schedule(wait);
}

void LockFileWaits::schedule(const WaitPtr& wait) {
  unschedule(wait);
  TimePoint at = wait->looking ? TimePoint::max() : wait->look_at;
  if (wait->on_long) at = std::min(at, wait->wanted.long_at);
  if (wait->signals_at) at = std::min(at, *wait->signals_at);
  if (wait->over_at) at = std::min(at, *wait->over_at);
  if (wait->looking && !wait->over_at && wait->wanted.deadline) at = std::min(at, *wait->wanted.deadline + kLastLook);
  if (at == TimePoint::max()) return;
  wait->due = at;
  due_.emplace(at, wait->id);
  if (due_.begin()->second == wait->id) changed_.notify_one();
}

void LockFileWaits::unschedule(const WaitPtr& wait) {
  if (wait->due == TimePoint::max()) return;
  due_.erase({wait->due, wait->id});
  wait->due = TimePoint::max();
}

void LockFileWaits::run() {
  pthread_setname_np(pthread_self(), "flockfs-lockfile");
  MutexLock lock(mutex_);
  while (!ends_) {
    if (due_.empty()) {
      changed_.wait(mutex_);
      continue;
    }
    const auto [at, id] = *due_.begin();
    if (at > now()) {
      changed_.wait_until(mutex_, at);
      continue;
    }
    const WaitPtr wait = waits_.at(id);
    unschedule(wait);
    lock.unlock();
    attend(wait);
    lock.lock();
  }
}

// Whatever of a wait's times has come.
void LockFileWaits::attend(const WaitPtr& wait) {
  std::function<void()> tell;
  bool probe = false;
  {
    MutexLock lock(mutex_);
    const TimePoint at = now();
    if (wait->on_long && wait->wanted.long_at <= at) tell = std::exchange(wait->on_long, nullptr);
    probe = wait->signals_at && *wait->signals_at <= at;
    if (probe) wait->signals_at = at + kLookAgain;
  }
  if (tell) tell();
  if (probe && probe_.must_end(wait->wanted.tid)) {
    finish(wait, End::kInterrupted);
    return;
  }
  Turn turn = Turn::kNone;
  {
    MutexLock lock(mutex_);
    if (!wait->done) return;
    turn = turn_of(wait, now());
    if (turn != Turn::kOver) schedule(wait);
  }
  if (turn == Turn::kOver) finish(wait, End::kTimedOut);
  if (turn == Turn::kLook) look_soon(wait);
}

LockFileWaits::Turn LockFileWaits::turn_of(const WaitPtr& wait, TimePoint at) {
  const auto& deadline = wait->wanted.deadline;
  if (wait->over_at && *wait->over_at <= at) return Turn::kOver;
  if (wait->looking) {
    // A look that has not come back by the deadline was the last one.
    return deadline && *deadline + kLastLook <= at ? Turn::kOver : Turn::kNone;
  }
  if (wait->look_at > at) return Turn::kNone;
  wait->looking = true;
  if (deadline && *deadline <= at) wait->over_at = at + kLastLook;
  return Turn::kLook;
}

void LockFileWaits::look_soon(const WaitPtr& wait) {
  bool start = false;
  {
    MutexLock lock(mutex_);
    looks_.push_back(wait);
    start = jobs_ < kMostJobs;
    if (start) ++jobs_;
  }
  if (!start || pool_.run([this] { work(); })) return;
  work();  // no thread can be had: then by this one
}

void LockFileWaits::work() {
  for (;;) {
    WaitPtr wait;
    {
      MutexLock lock(mutex_);
      if (looks_.empty()) {
        --jobs_;
        return;
      }
      wait = std::move(looks_.front());
      looks_.pop_front();
      if (!wait->done) continue;
    }
    look(wait);
  }
}

void LockFileWaits::look(const WaitPtr& wait) {
  if (files_.are_free(wait->wanted.names)) {
    finish(wait, End::kFree);
    return;
  }
  bool over = false;
  {
    MutexLock lock(mutex_);
    if (!wait->done) return;
    wait->looking = false;
    over = wait->over_at.has_value();
    if (!over) {
      wait->look_at = wait->backoff.next_look(now(), wait->wanted.deadline, static_cast<std::uint32_t>(random_()));
      schedule(wait);
    }
  }
  if (over) finish(wait, End::kTimedOut);
}

// Whoever comes first calls `done`; what comes later is dropped.
void LockFileWaits::finish(const WaitPtr& wait, End end) {
  Done done;
  LockFileBackoff backoff;
  {
    MutexLock lock(mutex_);
    done = std::exchange(wait->done, nullptr);
    backoff = wait->backoff;
    waits_.erase(wait->id);
    unschedule(wait);
  }
  if (done) done(end, backoff);
}

void LockFileWaits::interrupt(Id id) {
  MutexLock lock(mutex_);
  const auto entry = waits_.find(id);
  if (entry == waits_.end() || entry->second->signals_at) return;
  entry->second->signals_at = now();
  if (entry->second->arranged) schedule(entry->second);
}

std::vector<LockFileWaits::Waiting> LockFileWaits::waiting() const {
  std::vector<WaitPtr> all;
  {
    MutexLock lock(mutex_);
    all.reserve(waits_.size());
    for (const auto& [id, wait] : waits_) all.push_back(wait);
  }
  std::vector<Waiting> result;
  result.reserve(all.size());
  for (const WaitPtr& wait : all) result.push_back({wait->wanted.path, wait->wanted.process, wait->wanted.since});
  return result;
}

void LockFileWaits::stop() {
  std::vector<WaitPtr> waits;
  {
    MutexLock lock(mutex_);
    stopped_ = true;
    for (const auto& [id, wait] : waits_) {
      if (wait->arranged) waits.push_back(wait);
    }
  }
  for (const WaitPtr& wait : waits) finish(wait, End::kStopped);
}

void LockFileWaits::end() {
  {
    MutexLock lock(mutex_);
    ends_ = true;
    changed_.notify_one();
  }
  if (thread_.joinable()) thread_.join();
}

}  // namespace flockfs
