// Holders and their members: the end of each, and what the kernel must hold for those that are left.

#include <utility>

#include "lock/wait_room.h"

namespace flockfs {

namespace {

// Of a lock that an open file has lost and is to have again: nobody waits for the outcome.
class Nobody final : public LockWaiter {
 public:
  void on_parked(WaitId /*id*/) override {}
  void on_wait() override {}
  void on_outcome(LockOutcome /*outcome*/) override {}
  void on_long_wait(Duration /*waited*/, const std::vector<Blocker>& /*blockers*/) override {}
  void on_possible_deadlock(const std::vector<pid_t>& /*processes*/) override {}
};

}  // namespace

Member WaitRoom::member_for(LockId id, const LockRequest& request) {
  Member member;
  member.id = id;
  member.owner = request.owner;
  member.tid = request.tid;
  return member;
}

Holder WaitRoom::new_holder(LockId id, const LockRequest& request, TimePoint now) {
  Holder holder;
  holder.id = id;
  holder.mode = holder.opened = request.mode;
  holder.state = Holder::State::kAsked;
  holder.alone = request.alone;
  holder.since = now;
  holder.fd = request.fd.get();
  holder.first = member_for(id, request);
  return holder;
}

void WaitRoom::release(const FileId& file, std::uint64_t id, UniqueFd fd) {
  Aftermath after;
  {
    MutexLock lock(mutex_);
    LockRecord* const record = table_.find(file);
    Holder* const holder = record == nullptr ? nullptr : record->holder_of(id);
    if (holder == nullptr) return;
    --held_;
    const Owner owner = holder->member(id)->owner;
    holder->remove_member(id);
    record->changed_at = ++last_id_;
    holder->downgrade_failed = false;
    if (holder->empty) cancel_regains(*record, holder->id, after);
    // As long as the descriptor is open, no new file can have this inode number: it is closed after the holder is gone.
    if (holder->empty || holder->busy || fd.get() == holder->fd || fd.get() == holder->exclusive_fd) {
      kept_[holder->id].push_back(std::move(fd));
    }
    if (!holder->empty) {
      review(file, *record, *holder, after);
      examine_again(*record, owner.tgid, after);
    } else if (!holder->busy) {
      begin_busy(*holder);
      after.finish.push_back({file, holder->id});
    }
  }
  see_to(std::move(after));
}

bool WaitRoom::closed(const FileId& file, std::uint64_t id) {
  MutexLock lock(mutex_);
  LockRecord* const record = table_.find(file);
  Holder* const holder = record == nullptr ? nullptr : record->holder_of(id);
  if (holder != nullptr) holder->member(id)->closed = true;
  return record != nullptr && !record->queue().empty();
}

// REQUIRES: the holder is empty, and busy on behalf of the caller.
void WaitRoom::finish_holder(const HolderOf& which) {
  Holder holder;
  {
    MutexLock lock(mutex_);
    holder = *table_.find(which.file)->holder(which.holder);
  }
  // Should it fail, the close does it. Where only a part of the lock was given up the rest is held.
  if (holder.state == Holder::State::kHeld || locker_.flock_part() != &locker_) {
    (void)locker_.unlock(holder.fd);
    if (holder.exclusive_fd >= 0) (void)locker_.unlock(holder.exclusive_fd);
  }
  Aftermath after;
  {
    MutexLock lock(mutex_);
    LockRecord& record = *table_.find(which.file);
    drop_holder(which.file, record, which.holder, after);
    review_turns(record, after);  // the last flock(2) of an opener's other lock may have gone with it
    examine_again(record, holder.first.owner.tgid, after);
    examine_heirs(record, after);
    if (record.grantable() != nullptr) after.pump.push_back(which.file);
    table_.drop_if_idle(which.file, clock_.now());
  }
  after.closed.clear();
  see_to(std::move(after));
}

// Takes a holder out of the table.
void WaitRoom::drop_holder(const FileId& file, LockRecord& record, LockId id, Aftermath& after) {
  if (!kept_.empty()) {
    const auto kept = kept_.find(id);
    if (kept != kept_.end()) {
      for (UniqueFd& fd : kept->second) after.closed.push_back(std::move(fd));
      kept_.erase(kept);
    }
  }
  record.remove_holder(id);
  record.changed_at = ++last_id_;
  if (record.drained(clock_.now(), table_.times)) attend(file, record.yield_until());
}

void WaitRoom::begin_busy(Holder& holder) { holder.busy = true; }

// REQUIRES: the caller made it busy.
void WaitRoom::end_busy(const FileId& file, LockRecord& record, LockId id, Aftermath& after) {
  Holder* const holder = record.holder(id);
  if (holder == nullptr) return;
  if (holder->empty) {  // stays busy: nobody else may finish it
    holder->busy = true;
    after.finish.push_back({file, id});
    return;
  }
  holder->busy = false;
  review(file, record, *holder, after);
}

// Somebody's flock(2) may be in nobody's way any more.
void WaitRoom::review_turns(const LockRecord& record, Aftermath& after) {
  for (const std::uint64_t id : record.turns) {
    const WaitPtr& wait = waits_.at(id);
    if (!std::exchange(wait->turn_due, true)) after.turns.push_back(wait);
  }
}

// What its members' flock(2) calls ask for may have changed.
void WaitRoom::review(const FileId& file, LockRecord& record, Holder& holder, Aftermath& after) {
  review_turns(record, after);
  if (holder.busy || holder.state != Holder::State::kHeld) return;
  if (holder.mode == LockMode::kExclusive && holder.needed() == LockMode::kShared && !holder.downgrade_failed) {
    begin_busy(holder);
    after.downgrade.push_back({file, holder.id});
  }
  // While the queue is polled, its next try comes by itself.
  if (record.grantable() != nullptr && !record.poll_at) after.pump.push_back(file);
}

// REQUIRES: the holder is busy on behalf of the caller, and needs a shared lock only.
void WaitRoom::downgrade(const HolderOf& which) {
  int fd = -1;
  {
    MutexLock lock(mutex_);
    fd = table_.find(which.file)->holder(which.holder)->fd;
  }
  const int error = locker_.flock_part()->downgrade(fd);
  Aftermath after;
  {
    MutexLock lock(mutex_);
    LockRecord& record = *table_.find(which.file);
    Holder& holder = *record.holder(which.holder);
    if (error == 0) record.set_mode(holder, LockMode::kShared);
    holder.downgrade_failed = error != 0;
    end_busy(which.file, record, which.holder, after);
  }
  see_to(std::move(after));
}

// What a flock(2) that has ended in vain gave up: had again at once if that is possible, so before the call returns.
void WaitRoom::take_back(const HolderOf& which) {
  int fd = -1;
  {
    MutexLock lock(mutex_);
    LockRecord* const record = table_.find(which.file);
    Holder* const holder = record == nullptr ? nullptr : record->holder(which.holder);
    if (holder == nullptr || holder->busy || holder->state != Holder::State::kGivenUp) return;
    begin_busy(*holder);
    if (record->compatible(LockMode::kShared)) {
      fd = holder->fd;
      record->take_up(*holder, LockMode::kShared);
    }
  }
  const bool taken = fd >= 0 && locker_.flock_part()->try_lock(fd, LockMode::kShared) == 0;
  Aftermath after;
  {
    MutexLock lock(mutex_);
    LockRecord& record = *table_.find(which.file);
    Holder& holder = *record.holder(which.holder);
    if (taken) {
      record.confirm_holder(which.holder, clock_.now());
      wake_blocked(record, after);
    } else {
      if (fd >= 0) record.give_up(holder);
      if (!holder.empty && !stopped_) regain(which.file, record, holder, after);
    }
    end_busy(which.file, record, which.holder, after);
    if (record.grantable() != nullptr) after.pump.push_back(which.file);
  }
  see_to(std::move(after));
}

// Nobody is left for whom it is to be had again.
void WaitRoom::cancel_regains(LockRecord& record, LockId holder, Aftermath& after) {
  std::vector<WaitPtr> regaining;
  for (const QueuedRequest& request : record.queue()) {
    if (request.want == Want::kRegain && request.holder == holder) regaining.push_back(waits_.at(request.wait_id));
  }
  for (const WaitPtr& wait : regaining) cancel(wait, WaitEnd::kStopped, after);
}

// Has the shared lock of the holder's opens taken again as soon as that can be.
void WaitRoom::regain(const FileId& file, LockRecord& record, const Holder& holder, Aftermath& after) {
  LockRequest request;
  request.file = file;
  request.mode = holder.opened;
  request.owner = holder.first.owner;
  auto wait = std::make_shared<Wait>(++last_id_, std::move(request), std::make_shared<Nobody>(), clock_.now(), pool_);
  wait->internal = true;
  wait->state = Wait::State::kQueued;
  wait->place = record.enqueue_first({.wait_id = wait->id,
                                      .mode = wait->request.mode,
                                      .owner = wait->request.owner,
                                      .want = Want::kRegain,
                                      .holder = holder.id});
  waits_.emplace(wait->id, wait);
  after.pump_first.push_back(file);
}

}  // namespace flockfs
