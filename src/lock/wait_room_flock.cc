// flock(2) calls of clients, on top of the locks of their opens (DESIGN 1.9).

#include <cerrno>
#include <deque>
#include <utility>

#include "lock/wait_room.h"

namespace flockfs {

// The process whose other locks on the file one with this holder has a part in; 0: nobody's, each open stands for
// itself.
pid_t WaitRoom::sharer_of(const Holder& holder) const { return reopen_ == Reopen::kWait ? 0 : holder.first.owner.tgid; }

FlockOutcome WaitRoom::try_flock(const Hold& hold, LockMode mode) {
  const FileId& file = file_of(hold);
  FlockOutcome outcome{EWOULDBLOCK, false};
  Aftermath after;
  {
    MutexLock lock(mutex_);
    LockRecord* const record = table_.find(file);
    Holder* holder = record == nullptr ? nullptr : record->holder_of(id_of(hold));
    if (holder == nullptr) return {EBADF, false};
    const LockId member_id = id_of(hold);
    if (holder->busy || holder->state != Holder::State::kHeld || record->flock_conflicts(*holder, member_id, mode)) {
      return outcome;
    }
    holder->downgrade_failed = false;
    if (mode == LockMode::kExclusive && holder->mode == LockMode::kShared) {
      const LockId id = holder->id;
      const pid_t process = sharer_of(*holder);
      if (!record->held_only_by(process, id)) return outcome;
      const Conversion conversion = upgrade(file, *record, id, process, -1, after);
      outcome.lost = conversion == Conversion::kLost;
      holder = record->holder(id);
      if (conversion == Conversion::kDone) outcome.error = 0;
      if (Member* member = holder->member(id_of(hold)); member != nullptr && outcome.error == 0) member->flocked = mode;
      end_busy(file, *record, id, after);
    } else {
      holder->member(id_of(hold))->flocked = mode;
      outcome.error = 0;
      review(file, *record, *holder, after);
    }
  }
  see_to(std::move(after));
  return outcome;
}

void WaitRoom::unlock_flock(const Hold& hold) {
  const FileId& file = file_of(hold);
  Aftermath after;
  {
    MutexLock lock(mutex_);
    LockRecord* const record = table_.find(file);
    Holder* const holder = record == nullptr ? nullptr : record->holder_of(id_of(hold));
    if (holder == nullptr) return;
    holder->member(id_of(hold))->flocked.reset();
    holder->downgrade_failed = false;
    review(file, *record, *holder, after);
  }
  see_to(std::move(after));
}

void WaitRoom::park_flock(const Hold& hold, LockMode mode, pid_t process, pid_t tid,
                          std::shared_ptr<LockWaiter> waiter) {
  LockRequest request;
  request.file = file_of(hold);
  request.mode = mode;
  request.tid = tid;
  WaitPtr wait;
  {
    MutexLock lock(mutex_);
    if (LockRecord* record = table_.find(request.file)) {
      if (const Holder* holder = record->holder_of(id_of(hold))) request.owner = holder->first.owner;
    }
    wait = std::make_shared<Wait>(++last_id_, std::move(request), std::move(waiter), clock_.now(), pool_);
    wait->process = process;
    wait->member = id_of(hold);
    waits_.emplace(wait->id, wait);
  }
  wait->waiter->on_parked(wait->id);
  Aftermath after;
  {
    MutexLock lock(mutex_);
    if (stopped_ && !wait->early_end) wait->early_end = WaitEnd::kStopped;
    if (wait->early_end) {
      end_wait(wait, *wait->early_end, 0, after);
    } else {
      wait->state = Wait::State::kQueued;
      note_waiting(*wait);
      wait->in_turn = true;
      table_.find(wait->request.file)->turns.push_back(wait->id);
      wait->long_at = wait->since + long_wait_;
      long_waits_.emplace(*wait->long_at, wait->id);
      wake_keeper(*wait->long_at);
      start_flock(wait, after);
    }
  }
  see_to(std::move(after));
  begin_waiting(wait);
}

// Looks at each once; what that leads to goes to the end of the list of the outermost call of this thread, as in
// tell().
void WaitRoom::take_turns(const std::vector<WaitPtr>& turns) {
  using List = std::deque<std::pair<WaitRoom*, WaitPtr>>;
  static thread_local List* taking = nullptr;
  if (turns.empty()) return;
  List list;
  List& all = taking != nullptr ? *taking : list;
  for (const WaitPtr& wait : turns) all.emplace_back(this, wait);
  if (taking != nullptr) return;
  struct Taking {
    explicit Taking(List* to) { taking = to; }
    ~Taking() { taking = nullptr; }
  } const scope(&list);
  while (!list.empty()) {
    const auto [room, wait] = std::move(list.front());
    list.pop_front();
    room->take_turn(wait);
  }
}

void WaitRoom::take_turn(const WaitPtr& wait) {
  Aftermath later;
  {
    MutexLock lock(mutex_);
    wait->turn_due = false;
    if (wait->state == Wait::State::kQueued) start_flock(wait, later);
  }
  see_to(std::move(later));
}

// Grants it, gets in line for it, or leaves it in its turn. REQUIRES: the wait is queued; the mutex may be free
// meanwhile.
void WaitRoom::start_flock(const WaitPtr& wait, Aftermath& after) {
  if (!wait->in_turn) return;
  const FileId& file = wait->request.file;
  LockRecord& record = *table_.find(file);
  Holder* const holder = record.holder_of(wait->member);
  if (holder == nullptr) {
    end_wait(wait, WaitEnd::kFailed, EBADF, after);
    return;
  }
  const LockMode mode = wait->request.mode;
  if (holder->busy || holder->state != Holder::State::kHeld) return;
  if (record.flock_conflicts(*holder, wait->member, mode)) return;
  if (mode == LockMode::kShared || holder->mode == LockMode::kExclusive) {
    grant_flock(wait, record, *holder, after);
    return;
  }
  const LockId id = holder->id;
  const pid_t process = sharer_of(*holder);
  if (record.held_only_by(process, id) && record.queue().empty() && record.worker == LockRecord::Worker::kNone) {
    const Conversion conversion = upgrade(file, record, id, process, -1, after);
    const bool ended = wait->state == Wait::State::kEnded;
    wait->gave_up |= conversion == Conversion::kLost;
    if (conversion == Conversion::kDone && !ended) grant_flock(wait, record, *record.holder(id), after);
    if (conversion != Conversion::kRefused || ended) {
      end_busy(file, record, id, after);
      return;
    }
  }
  give_up_for(wait, record, id, after);
}

// As flock(2) does: the shared lock goes, so that two who want more do not wait for each other.
void WaitRoom::give_up_for(const WaitPtr& wait, LockRecord& record, LockId id, Aftermath& after) {
  const FileId& file = wait->request.file;
  const std::vector<int> unneeded = merge(record, id, sharer_of(*record.holder(id)));
  Holder& before = *record.holder(id);
  wait->gave_up = true;
  begin_busy(before);
  const int fd = before.fd;
  mutex_.unlock();
  for (const int other : unneeded) (void)locker_.unlock(other);
  (void)locker_.flock_part()->unlock(fd);
  mutex_.lock();
  Holder& holder = *record.holder(id);
  record.give_up(holder);
  if (record.drained(clock_.now(), table_.times)) attend(file, record.yield_until());
  if (wait->state == Wait::State::kEnded) {
    if (!holder.empty && !stopped_) regain(file, record, holder, after);
  } else {
    std::erase(record.turns, wait->id);
    wait->in_turn = false;
    wait->place = record.enqueue({.wait_id = wait->id,
                                  .mode = wait->request.mode,
                                  .owner = wait->request.owner,
                                  .want = Want::kRegain,
                                  .holder = id});
  }
  end_busy(file, record, id, after);
  after.pump.push_back(file);
}

void WaitRoom::grant_flock(const WaitPtr& wait, LockRecord& record, Holder& holder, Aftermath& after) {
  if (Member* member = holder.member(wait->member)) member->flocked = wait->request.mode;
  end_wait(wait, WaitEnd::kGranted, 0, after);
  review(wait->request.file, record, holder, after);
}

}  // namespace flockfs
