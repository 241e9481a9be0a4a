// The keeper: deadlines, looks at the signals of interrupted waiters, polling where no thread can be had, files that
// yield. It sleeps without a timer when there is nothing of these.

#include <pthread.h>

#include <algorithm>
#include <utility>

#include "base/signals_blocked.h"
#include "lock/wait_room.h"

namespace flockfs {

namespace {

constexpr Duration kBetweenLooks = std::chrono::milliseconds(50);
// How often the list of all locks is looked at for an upgrade that somebody outside is in the way of.
constexpr Duration kFirstOutsidePause = std::chrono::milliseconds(2);
constexpr Duration kLongestOutsidePause = std::chrono::milliseconds(100);
constexpr int kRestPerLook = 3;

}  // namespace

WaitRoom::WaitRoom(const LockEngineConfig& config, Keeper keeper)
    : locker_(config.locker),
      signals_(config.signals),
      foreign_(config.foreign),
      holders_(config.holders),
      clock_(config.clock),
      pool_(config.pool),
      long_wait_(config.long_wait),
      reopen_(config.reopen) {
  if (keeper == Keeper::kNone) return;
  const SignalsBlocked blocked;
  keeper_ = std::thread([this] { keep(); });
}

WaitRoom::~WaitRoom() { WaitRoom::end(); }

void WaitRoom::end() {
  {
    MutexLock lock(mutex_);
    keeper_ends_ = true;
    keeper_wakes_.notify_all();
  }
  if (keeper_.joinable()) keeper_.join();
  // Threads that blocked for cancelled waits may still be on their way back.
  MutexLock lock(mutex_);
  while (jobs_ > 0) no_jobs_.wait(mutex_);
}

void WaitRoom::keep() {
  pthread_setname_np(pthread_self(), "flockfs-keeper");
  MutexLock lock(mutex_);
  while (!keeper_ends_) {
    const std::optional<TimePoint> next = next_tick_locked();
    if (next && *next <= clock_.now()) {
      lock.unlock();
      tick();
      lock.lock();
      continue;
    }
    keeper_sleeps_until_ = next.value_or(TimePoint::max());
    if (next) {
      keeper_wakes_.wait_until(mutex_, *next);
    } else {
      keeper_wakes_.wait(mutex_);
    }
    keeper_sleeps_until_ = TimePoint::min();
  }
}

void WaitRoom::wake_keeper(TimePoint at) {
  if (at < keeper_sleeps_until_) keeper_wakes_.notify_one();
}

std::optional<TimePoint> WaitRoom::next_tick() const {
  MutexLock lock(mutex_);
  return next_tick_locked();
}

std::optional<TimePoint> WaitRoom::next_tick_locked() const {
  std::optional<TimePoint> next;
  const auto no_later_than = [&next](TimePoint at) { next = next ? std::min(*next, at) : at; };
  if (!deadlines_.empty()) no_later_than(deadlines_.begin()->first);
  if (!looks_.empty()) no_later_than(looks_.begin()->first);
  if (!long_waits_.empty()) no_later_than(long_waits_.begin()->first);
  if (!unchecked_.empty()) no_later_than(next_check_);
  if (!attended_.empty()) no_later_than(next_attention_);
  if (!exams_.empty() && !examining_) no_later_than(exams_.begin()->first);
  return next;
}

void WaitRoom::tick() {
  Aftermath after;
  std::vector<WaitPtr> looks;
  bool check = false;
  bool long_ones = false;
  bool exams = false;
  bool outside = false;
  {
    MutexLock lock(mutex_);
    const TimePoint now = clock_.now();
    end_overdue(now, after);
    looks = take_due_looks(now);
    attend_records(now, after);
    check = !unchecked_.empty() && next_check_ <= now;
    long_ones = !long_waits_.empty() && long_waits_.begin()->first <= now;
    exams = !exams_.empty() && exams_.begin()->first <= now && !examining_;
    outside = !held_off_.empty();
  }
  see_to(std::move(after));
  for (const WaitPtr& wait : looks) look_at_signals(wait);
  if (check) check_fairness();
  if (long_ones) tell_long_waits();
  if (outside) look_outside();
  if (!exams) return;
  start_examining();
  {
    MutexLock lock(mutex_);
    if (std::exchange(examining_, true)) return;  // a thread of the pool does it
  }
  examine_due();
}

void WaitRoom::end_overdue(TimePoint now, Aftermath& after) {
  while (!deadlines_.empty() && deadlines_.begin()->first <= now) {
    const WaitPtr wait = waits_.at(deadlines_.begin()->second);
    cancel(wait, WaitEnd::kTimedOut, after);
  }
}

void WaitRoom::interrupt(WaitId id) {
  MutexLock lock(mutex_);
  const auto found = waits_.find(id);
  if (found == waits_.end() || found->second->next_look) return;  // ended, or being looked at already
  const TimePoint now = clock_.now();
  found->second->next_look = now;
  looks_.emplace(now, id);
  wake_keeper(now);
}

std::vector<std::shared_ptr<Wait>> WaitRoom::take_due_looks(TimePoint now) {
  std::vector<WaitPtr> due;
  while (!looks_.empty() && looks_.begin()->first <= now) {
    const WaitPtr& wait = waits_.at(looks_.begin()->second);
    looks_.erase(looks_.begin());
    wait->next_look = now + kBetweenLooks;
    looks_.emplace(*wait->next_look, wait->id);
    due.push_back(wait);
  }
  return due;
}

void WaitRoom::look_at_signals(const WaitPtr& wait) {
  if (!signals_.must_end(wait->request.tid)) return;
  Aftermath after;
  {
    MutexLock lock(mutex_);
    cancel(wait, WaitEnd::kInterrupted, after);
  }
  see_to(std::move(after));
}

void WaitRoom::attend(const FileId& file, TimePoint at) {
  next_attention_ = attended_.empty() ? at : std::min(next_attention_, at);
  attended_.insert(file);
  wake_keeper(at);
}

void WaitRoom::attend_records(TimePoint now, Aftermath& after) {
  if (attended_.empty() || next_attention_ > now) return;
  next_attention_ = TimePoint::max();
  for (auto file = attended_.begin(); file != attended_.end();) {
    const std::optional<TimePoint> again = attend_record(*file, now, after);
    if (again) next_attention_ = std::min(next_attention_, *again);
    file = again ? std::next(file) : attended_.erase(file);
  }
}

// Returns when the record needs attention again, if it does.
std::optional<TimePoint> WaitRoom::attend_record(const FileId& file, TimePoint now, Aftermath& after) {
  LockRecord* record = table_.find(file);
  if (record == nullptr) return std::nullopt;
  bool pump_now = false;
  if (record->yield() != YieldPhase::kNone && record->yield_until() <= now) {
    record->end_yield(now);
    pump_now = true;
  }
  if (record->poll_at && *record->poll_at <= now) {
    record->poll_at.reset();
    pump_now = true;
    if (record->held_off() != nullptr) held_off_.push_back(file);
  }
  if (pump_now) after.pump.push_back(file);
  std::optional<TimePoint> again = record->poll_at;
  if (record->yield() != YieldPhase::kNone)
    again = again ? std::min(*again, record->yield_until()) : record->yield_until();
  table_.drop_if_idle(file, now);
  return again;
}

// Somebody outside has what an upgrade wants exclusively. Each try would drop the shared lock for a moment, so there is
// none until nobody outside is in the list of locks (DESIGN 1.6). REQUIRES: it is queued.
void WaitRoom::hold_off(const WaitPtr& wait, LockRecord& record) {
  wait->place->held_off = true;
  record.poll_pause = std::clamp(record.poll_pause * 2, kFirstOutsidePause, kLongestOutsidePause);
  record.poll_at = clock_.now() + record.poll_pause;
  attend(wait->request.file, *record.poll_at);
}

void WaitRoom::look_outside() {
  std::vector<FileId> files;
  {
    MutexLock lock(mutex_);
    files = std::exchange(held_off_, {});
  }
  for (const FileId& file : files) learn_device(file);
  const TimePoint begin = clock_.now();
  std::unordered_set<FileId, FileIdHash> taken;
  const bool read = foreign_.for_each([this, &taken](const ForeignLock& lock) {
    if (!lock.waits && lock.kind != ForeignLockKind::kOfd && locker_.minds(lock.kind)) taken.insert(lock.file);
  });
  Aftermath after;
  {
    MutexLock lock(mutex_);
    const TimePoint now = clock_.now();
    for (const FileId& file : files) {
      LockRecord* const record = table_.find(file);
      const QueuedRequest* const held_off = record == nullptr ? nullptr : record->held_off();
      if (held_off == nullptr) continue;
      const WaitPtr& wait = waits_.at(held_off->wait_id);
      if (read && taken.contains(listed(file))) {
        hold_off(wait, *record);
        record->poll_at = std::max(*record->poll_at, now + (now - begin) * kRestPerLook);
      } else {
        wait->place->held_off = false;
        after.pump.push_back(file);
      }
    }
  }
  see_to(std::move(after));
}

}  // namespace flockfs
