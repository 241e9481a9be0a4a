#include "lock/wait_room.h"

#include <cerrno>
#include <deque>
#include <utility>

namespace flockfs {

std::optional<LockOutcome> WaitRoom::try_acquire(LockRequest& request) {
  const FileId file = request.file;
  const TimePoint now = clock_.now();
  LockId id = 0;
  LockRecord* record = nullptr;  // stays where it is while our holder is in it
  {
    MutexLock lock(mutex_);
    record = &table_.find_or_add(file, now);
    // Nobody outside waits for a file that nobody has seen.
    if (request.made && record->holders().empty() && record->queue().empty()) record->end_yield(now);
    if (!record->admits(request.mode)) return std::nullopt;
    id = ++last_id_;
    record->add_holder(new_holder(id, request, now));
    record->changed_at = id;
  }
  const int error = locker_.try_lock(request.fd.get(), request.mode);
  Aftermath after;
  {
    MutexLock lock(mutex_);
    if (error == 0) {
      record->confirm_holder(id, now);
      ++held_;
      note_use(file, *record, now);
      if (record->grantable() != nullptr) after.pump.push_back(file);  // an upgrade that waited for the answer
    } else {
      drop_holder(file, *record, id, after);
      if (record->grantable() != nullptr) after.pump.push_back(file);
      table_.drop_if_idle(file, now);
    }
  }
  see_to(std::move(after));
  if (error == EWOULDBLOCK) return std::nullopt;
  LockOutcome outcome;
  outcome.error = error;
  if (error == 0) {
    outcome.end = WaitEnd::kGranted;
    outcome.hold = make_hold(file, id, request.mode, std::move(request.fd));
  } else {
    request.fd.reset();
  }
  return outcome;
}

void WaitRoom::park(LockRequest request, std::shared_ptr<LockWaiter> waiter) {
  WaitPtr wait;
  {
    MutexLock lock(mutex_);
    wait = std::make_shared<Wait>(++last_id_, std::move(request), std::move(waiter), clock_.now(), pool_);
    wait->process = wait->request.owner.tgid;
    waits_.emplace(wait->id, wait);
  }
  wait->waiter->on_parked(wait->id);
  Aftermath after;
  {
    MutexLock lock(mutex_);
    if (enqueue(wait, after)) after.pump.push_back(wait->request.file);
  }
  see_to(std::move(after));
  begin_waiting(wait);
}

// What was not to be had at once. An open may still join what its process has: that is seen at the first look.
void WaitRoom::begin_waiting(const WaitPtr& wait) {
  bool may_join = false;
  {
    MutexLock lock(mutex_);
    if (wait->state != Wait::State::kQueued) return;
    if (worth_examining(*wait)) {
      schedule_exam(wait, wait->since);
      may_join = wait->is_open() && reopen_ == Reopen::kJoin;
    }
    if (may_join) wait->trying = false;
  }
  if (!may_join) say_that_it_waits(wait);
  start_examining();
}

void WaitRoom::say_that_it_waits(const WaitPtr& wait) {
  {
    MutexLock lock(mutex_);
    wait->trying = false;
    if (wait->state != Wait::State::kQueued || wait->told != Wait::Told::kNothing) return;
    wait->told = Wait::Told::kBeingTold;
  }
  wait->waiter->on_wait();
  std::vector<Ended> ended;
  {
    MutexLock lock(mutex_);
    wait->told = Wait::Told::kWaits;
    if (wait->ended_meanwhile) ended.push_back({wait, *std::move(wait->ended_meanwhile)});
    wait->ended_meanwhile.reset();
  }
  tell(std::move(ended));
}

// False if the wait has ended before it began.
bool WaitRoom::enqueue(const WaitPtr& wait, Aftermath& after) {
  if (stopped_ && !wait->early_end) wait->early_end = WaitEnd::kStopped;
  if (wait->early_end) {
    end_wait(wait, *wait->early_end, 0, after);
    return false;
  }
  const LockRequest& request = wait->request;
  LockRecord& record = table_.find_or_add(request.file, wait->since);
  wait->place = record.enqueue({.wait_id = wait->id, .mode = request.mode, .owner = request.owner});
  wait->state = Wait::State::kQueued;
  note_waiting(*wait);
  if (request.deadline) {
    deadlines_.emplace(*request.deadline, wait->id);
    wake_keeper(*request.deadline);
  }
  wait->long_at = wait->since + long_wait_;
  long_waits_.emplace(*wait->long_at, wait->id);
  wake_keeper(*wait->long_at);
  return true;
}

// REQUIRES: a client waits for it, from now on.
void WaitRoom::note_waiting(const Wait& wait) { ++waiting_[wait.process]; }

// From here on nobody but the teller of the outcome knows the wait, and the thread that blocks for it, if one does.
void WaitRoom::forget(const WaitPtr& wait) {
  if (wait->state == Wait::State::kQueued) {
    LockRecord* const record = table_.find(wait->request.file);
    if (record != nullptr && wait->in_turn) std::erase(record->turns, wait->id);
    if (record != nullptr && !wait->in_turn) record->dequeue(wait->place);
    note_files_of(*wait, {});
    if (const auto count = waiting_.find(wait->process); !wait->internal && --count->second == 0) waiting_.erase(count);
  }
  wait->state = Wait::State::kEnded;
  if (wait->request.deadline) deadlines_.erase({*wait->request.deadline, wait->id});
  if (wait->next_look) looks_.erase({*wait->next_look, wait->id});
  if (wait->long_at) long_waits_.erase({*wait->long_at, wait->id});
  if (wait->next_exam) exams_.erase({*wait->next_exam, wait->id});
  waits_.erase(wait->id);
}

// The outcome that will be told, for what is to be added to it under the mutex.
LockOutcome& WaitRoom::end_wait(const WaitPtr& wait, WaitEnd end, int error, Aftermath& after) {
  const bool at_once = wait->trying && (end == WaitEnd::kGranted || end == WaitEnd::kLost || end == WaitEnd::kFailed);
  const bool waited = wait->state == Wait::State::kQueued && wait->told == Wait::Told::kNothing && !at_once;
  forget(wait);
  LockOutcome outcome;
  outcome.end = end;
  outcome.error = error;
  outcome.waited = clock_.now() - wait->since;
  outcome.gave_up = wait->gave_up;
  if (wait->told == Wait::Told::kBeingTold) return wait->ended_meanwhile.emplace(std::move(outcome));
  after.ended.push_back({wait, std::move(outcome), waited});
  return after.ended.back().outcome;
}

void WaitRoom::cancel(const WaitPtr& wait, WaitEnd end, Aftermath& after) {
  if (wait->state == Wait::State::kEnded) return;
  if (wait->state == Wait::State::kParking) {
    wait->early_end = end;
    return;
  }
  const FileId& file = wait->request.file;
  LockRecord* const record = table_.find(file);
  const bool gave_up = wait->member != 0 && !wait->in_turn;
  end_wait(wait, end, 0, after);
  if (gave_up && end != WaitEnd::kStopped && record != nullptr) {
    Holder* const holder = record->holder_of(wait->member);
    // A thread that asks the kernel for it sees to that when it comes back.
    if (holder != nullptr && !holder->busy) after.take_back.push_back({file, holder->id});
  }
  if (wait->blocked_for) {
    after.interrupted.push_back(wait);  // the thread that returns goes on with the next in the queue
    return;
  }
  if (record == nullptr) return;
  if (record->grantable() != nullptr) after.pump.push_back(file);
  table_.drop_if_idle(file, clock_.now());
}

// REQUIRES: the kernel has granted what the queue's request asks for.
void WaitRoom::grant(const WaitPtr& wait, LockRecord& record, LockId id, Aftermath& after) {
  const TimePoint now = clock_.now();
  const LockRequest& request = wait->request;
  record.confirm_holder(id, now);
  Holder& holder = *record.holder(id);
  holder.all_lost = false;
  if (wait->member != 0) {
    grant_flock(wait, record, holder, after);
  } else if (wait->internal) {
    end_wait(wait, WaitEnd::kGranted, 0, after);
  } else {
    ++held_;
    end_wait(wait, WaitEnd::kGranted, 0, after).hold =
        make_hold(request.file, id, request.mode, std::move(wait->request.fd));
    examine_again(record, request.owner.tgid, after);
  }
  note_use(request.file, record, now);
}

void WaitRoom::stop_waits() {
  Aftermath after;
  {
    MutexLock lock(mutex_);
    stopped_ = true;
    std::vector<WaitPtr> all;
    all.reserve(waits_.size());
    for (const auto& [id, wait] : waits_) all.push_back(wait);
    for (const WaitPtr& wait : all) cancel(wait, WaitEnd::kStopped, after);
  }
  see_to(std::move(after));
}

LockEngine::Stats WaitRoom::stats() const {
  MutexLock lock(mutex_);
  return {held_, waits_.size()};
}

void WaitRoom::see_to(Aftermath after) {
  for (const WaitPtr& wait : after.interrupted) wait->point.interrupt();
  after.interrupted.clear();
  for (const HolderOf& which : after.finish) finish_holder(which);
  for (const HolderOf& which : after.downgrade) downgrade(which);
  for (const HolderOf& which : after.take_back) take_back(which);
  for (const FileId& file : after.pump_first) pump(file);
  tell(std::move(after.ended));
  take_turns(after.turns);
  for (const FileId& file : after.pump) pump(file);
  if (after.examine) start_examining();
}

// A waiter may release a lock in its on_outcome(), which ends the next wait, and so on: 1,000 of them must not be 1,000
// frames deep. So what ends inside goes to the end of the list of the outermost call of this thread.
void WaitRoom::tell(std::vector<Ended> ended) {
  static thread_local std::deque<Ended>* telling = nullptr;
  if (telling != nullptr) {
    for (Ended& one : ended) telling->push_back(std::move(one));
    return;
  }
  if (ended.empty()) return;
  std::deque<Ended> list;
  for (Ended& one : ended) list.push_back(std::move(one));
  struct Telling {
    explicit Telling(std::deque<Ended>* to) { telling = to; }
    ~Telling() { telling = nullptr; }  // also when memory runs out in a waiter
  } const scope(&list);
  while (!list.empty()) {
    Ended one = std::move(list.front());
    list.pop_front();
    if (one.waited) one.wait->waiter->on_wait();
    one.wait->waiter->on_outcome(std::move(one.outcome));
    one.wait->waiter.reset();
  }
}

}  // namespace flockfs
