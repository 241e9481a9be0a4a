// A process never waits for itself (DESIGN 1.6): what it opens while it has a lock on the file joins that lock.

#include <algorithm>
#include <cerrno>
#include <utility>

#include "lock/wait_room.h"

namespace flockfs {

// The holder that the process has a part in, by what was seen of it; null if it has none, or one cannot tell.
//
// /proc shows that a descriptor is of this file, not which open it comes from. So a process that has fewer than it
// opened has handed some on and may wait for those; one that opened none has inherited or been handed what somebody
// else opened, which is known where there is but one holder.
Holder* WaitRoom::own_holder(LockRecord& record, pid_t process, const Holding& holding) {
  if (process == 0 || !holding.any()) return nullptr;
  const std::size_t open = record.open_members_of(process);
  const std::size_t closed = record.closed_members_of(process);
  const auto holders = record.holders().size();
  if (open + closed == 0) {
    return holders == 1 && !holding.in_doubt ? record.holder(record.holders().front().id) : nullptr;
  }
  // Where it maps the file, how many opens that stands for is not to be seen.
  if (!holding.mapped && (holding.descriptions < open || closed > 0)) return nullptr;
  Holder* own = nullptr;
  for (const Holder& holder : record.holders()) {
    if (!holder.belongs_to(process)) continue;
    own = record.holder(holder.id);
    if (own->state == Holder::State::kHeld) break;
  }
  return own;
}

// When somebody last got a part in a lock of the file, or lost one; 0 if nobody has one. What was seen of a process in
// /proc since may be out of date if that has changed.
std::uint64_t WaitRoom::last_change(const FileId& file) const {
  MutexLock lock(mutex_);
  const LockRecord* const record = table_.find(file);
  return record == nullptr ? 0 : record->changed_at;
}

// Whether a holder's lock is all that another open of the process needs.
bool WaitRoom::joins_at_once(const Holder& holder, LockMode mode, FileLocker& locker) {
  if (holder.state != Holder::State::kHeld || holder.busy || holder.alone) return false;
  if (mode == LockMode::kShared || holder.opened == LockMode::kExclusive) return true;
  // Exclusive by a flock(2) of its application: that is all of the lock, or a part of it.
  return holder.mode == LockMode::kExclusive && locker.flock_part() == &locker;
}

Hold WaitRoom::add_member(LockRecord& record, Holder& holder, LockRequest& request) {
  const LockId id = ++last_id_;
  record.changed_at = id;
  holder.add_member(member_for(id, request));
  if (request.mode == LockMode::kExclusive) holder.opened = LockMode::kExclusive;
  ++held_;
  return make_hold(request.file, id, request.mode, std::move(request.fd));
}

// Whether a reader has a part in one of several shared locks, although it is not known in which: it needs no part in
// any of them to have the file now, before writers that wait for it to close what it has.
bool WaitRoom::shares_with_all(const LockRecord& record, const LockRequest& request, const Holding& holding) {
  if (request.mode != LockMode::kShared || request.owner.tgid == 0 || !holding.any() || holding.in_doubt) return false;
  const auto& holders = record.holders();
  return record.open_members_of(request.owner.tgid) + record.closed_members_of(request.owner.tgid) == 0 &&
         std::all_of(holders.begin(), holders.end(), [](const Holder& one) {
           return one.state == Holder::State::kHeld && one.mode == LockMode::kShared;
         });
}

// True if the wait has ended by it.
bool WaitRoom::join(const WaitPtr& wait, const Holding& holding, Aftermath& after) {
  if (wait->state != Wait::State::kQueued || wait->asked) return false;
  LockRequest& request = wait->request;
  const pid_t process = request.owner.tgid;
  LockRecord* const record = table_.find(request.file);
  Holder* const holder = record == nullptr ? nullptr : own_holder(*record, process, holding);
  if (record == nullptr || wait->place->want != Want::kLock) return false;
  if (holder == nullptr) {
    if (!shares_with_all(*record, request, holding)) return false;
    record->dequeue(wait->place);
    wait->place = record->enqueue_first({.wait_id = wait->id, .mode = request.mode, .owner = request.owner});
    after.pump.push_back(request.file);
    return false;
  }
  if (joins_at_once(*holder, request.mode, locker_)) {
    Hold hold = add_member(*record, *holder, request);
    end_wait(wait, WaitEnd::kGranted, 0, after).hold = std::move(hold);
    examine_again(*record, process, after);
    if (record->grantable() != nullptr) after.pump.push_back(request.file);
    return true;
  }
  if (holder->state != Holder::State::kHeld || holder->alone || request.mode != LockMode::kExclusive) return false;
  QueuedRequest upgrade = *wait->place;
  upgrade.want = Want::kUpgrade;
  upgrade.holder = holder->id;
  record->dequeue(wait->place);
  wait->place = record->enqueue_first(upgrade);
  after.pump.push_back(request.file);
  return false;
}

std::optional<LockOutcome> WaitRoom::try_join(LockRequest& request) {
  const pid_t process = request.owner.tgid;
  if (reopen_ == Reopen::kWait || process == 0 || request.alone) return std::nullopt;
  const FileId file = request.file;
  const std::uint64_t seen = last_change(file);
  const auto holding = holders_.holding(process, file);
  if (!holding || !holding->any()) return std::nullopt;
  std::optional<LockOutcome> outcome;
  Aftermath after;
  {
    MutexLock lock(mutex_);
    LockRecord* const record = table_.find(file);
    Holder* const own = record == nullptr ? nullptr : own_holder(*record, process, *holding);
    if (own == nullptr || record->changed_at != seen) return std::nullopt;
    const LockId id = own->id;
    bool upgraded = false;
    if (joins_at_once(*own, request.mode, locker_)) {
      outcome.emplace();
    } else if (request.mode == LockMode::kExclusive && own->state == Holder::State::kHeld &&
               record->worker == LockRecord::Worker::kNone && record->held_only_by(process, id)) {
      upgraded = true;
      record->worker = LockRecord::Worker::kPumping;  // nobody else asks for this file meanwhile
      const Conversion conversion = upgrade(file, *record, id, process, request.fd.get(), after);
      record->worker = LockRecord::Worker::kNone;
      if (conversion != Conversion::kRefused) outcome.emplace();
      if (conversion == Conversion::kDone) made_exclusive(*record->holder(id), request.fd.get());
      if (conversion == Conversion::kLost) outcome->end = WaitEnd::kLost;
    }
    if (outcome && outcome->end != WaitEnd::kLost) {
      outcome->end = WaitEnd::kGranted;
      outcome->hold = add_member(*record, *record->holder(id), request);
    }
    if (upgraded) end_busy(file, *record, id, after);
    after.pump.push_back(file);
    table_.drop_if_idle(file, clock_.now());
  }
  see_to(std::move(after));
  return outcome;
}

// The holder that an upgrade is of; 0 if there is none any more. REQUIRES: held_only_by() of the same.
LockId WaitRoom::upgradable(LockRecord& record, pid_t process, LockId wanted) {
  LockId any = 0;
  for (const Holder& holder : record.holders()) {
    if (holder.state != Holder::State::kHeld || holder.empty) continue;
    if (holder.id == wanted) return wanted;
    if (holder.belongs_to(process)) any = holder.id;
  }
  return any;
}

// Moves the members of the process's other holders into one, whose lock then stands for them all. Returns the
// descriptors that carry what is not needed any more; they stay open while that one is busy.
std::vector<int> WaitRoom::merge(LockRecord& record, LockId into, pid_t process) {
  std::vector<int> unneeded;
  std::vector<LockId> emptied;
  for (const Holder& holder : record.holders()) {
    // A busy one is another thread's, which comes back to it.
    if (holder.id != into && holder.state == Holder::State::kHeld && !holder.busy && holder.belongs_to(process)) {
      emptied.push_back(holder.id);
    }
  }
  for (const LockId id : emptied) {
    const Holder other = *record.holder(id);
    Holder& target = *record.holder(into);
    other.for_each_member([&target](const Member& member) { target.add_member(member); });
    unneeded.push_back(other.fd);
    if (const auto kept = kept_.find(id); kept != kept_.end()) {
      for (UniqueFd& fd : kept->second) kept_[into].push_back(std::move(fd));
      kept_.erase(id);
    }
    record.remove_holder(id);
    record.changed_at = ++last_id_;
  }
  return unneeded;
}

// Makes a shared lock exclusive. The mutex is free meanwhile; in the table it is exclusive from the start. The holder
// is busy afterwards: end_busy() is the caller's. REQUIRES: nobody else of the mirror holds the file.
Conversion WaitRoom::upgrade(const FileId& file, LockRecord& record, LockId id, pid_t process, int fresh,
                             Aftermath& after) {
  const std::vector<int> unneeded = merge(record, id, process);
  Holder& before = *record.holder(id);
  begin_busy(before);
  const LockMode mode = before.mode;
  record.set_mode(before, LockMode::kExclusive);
  const int held = before.fd;
  FileLocker& locker = fresh < 0 ? *locker_.flock_part() : locker_;
  mutex_.unlock();
  for (const int fd : unneeded) (void)locker_.unlock(fd);
  const Conversion conversion = locker.upgrade(held, fresh, mode);
  mutex_.lock();
  if (conversion == Conversion::kDone) return conversion;
  Holder& holder = *record.holder(id);  // there, since it is busy
  record.set_mode(holder, mode);
  if (conversion == Conversion::kLost) {
    holder.all_lost = fresh >= 0;
    record.give_up(holder);
    if (record.drained(clock_.now(), table_.times)) attend(file, record.yield_until());
    if (!holder.empty) regain(file, record, holder, after);
  }
  return conversion;
}

void WaitRoom::made_exclusive(Holder& holder, int fresh) {
  holder.opened = LockMode::kExclusive;
  if (locker_.flock_part() != &locker_) holder.exclusive_fd = fresh;  // flock(2) converts where it is
}

}  // namespace flockfs
