// Who stands in the way: asked for a wait that has lasted long, and by those who do not want to wait at all.

#include <utility>

#include "lock/wait_room.h"

namespace flockfs {

namespace {

// The record's holders, and those in its queue before `wait_id`.
std::vector<Blocker> blockers_in(const LockRecord& record, LockMode mode, std::uint64_t wait_id) {
  std::vector<Blocker> all;
  for (const Holder& holder : record.holders()) {
    if (holder.state == Holder::State::kGivenUp || !in_the_way(holder.mode, mode)) continue;
    if (holder.empty) all.push_back({0, holder.mode, true});  // on its way out
    holder.for_each_member([&](const Member& member) { all.push_back({member.owner.tgid, holder.mode, true}); });
  }
  for (const QueuedRequest& request : record.queue()) {
    if (request.wait_id == wait_id) break;
    all.push_back({request.owner.tgid, request.mode, true});
  }
  return all;
}

}  // namespace

std::vector<Blocker> WaitRoom::blockers(const FileId& file, LockMode mode) const {
  MutexLock lock(mutex_);
  const LockRecord* record = table_.find(file);
  return record == nullptr ? std::vector<Blocker>{} : blockers_in(*record, mode, 0);
}

std::vector<Blocker> WaitRoom::flock_blockers(const Hold& hold, LockMode mode) {
  MutexLock lock(mutex_);
  LockRecord* const record = table_.find(file_of(hold));
  const Holder* const own = record == nullptr ? nullptr : record->holder_of(id_of(hold));
  std::vector<Blocker> all;
  if (own == nullptr) return all;
  const pid_t process = sharer_of(*own);
  for (const Holder& holder : record->holders()) {
    if (holder.state == Holder::State::kGivenUp) continue;
    const bool shared = holder.id == own->id || holder.belongs_to(process);
    if (!shared && holder.empty) all.push_back({0, holder.mode, true});  // on its way out
    holder.for_each_member([&](const Member& one) {
      if (one.id == id_of(hold)) return;
      const bool blocks = shared ? one.flocked && in_the_way(*one.flocked, mode) : in_the_way(holder.mode, mode);
      if (blocks) all.push_back({one.owner.tgid, holder.mode, true});
    });
  }
  return all;
}

void WaitRoom::tell_long_waits() {
  struct LongWait {
    std::shared_ptr<LockWaiter> waiter;
    FileId listed;
    LockMode mode;
    Duration waited;
    std::vector<Blocker> blockers;
  };
  std::vector<LongWait> due;
  {
    MutexLock lock(mutex_);
    const TimePoint now = clock_.now();
    while (!long_waits_.empty() && long_waits_.begin()->first <= now) {
      const WaitPtr& wait = waits_.at(long_waits_.begin()->second);
      long_waits_.erase(long_waits_.begin());
      wait->long_at.reset();
      const LockRequest& request = wait->request;
      const LockRecord* record = table_.find(request.file);
      if (record == nullptr) continue;
      due.push_back({wait->waiter, listed(request.file), request.mode, now - wait->since,
                     blockers_in(*record, request.mode, wait->id)});
    }
  }
  if (due.empty()) return;
  (void)foreign_.for_each([this, &due](const ForeignLock& lock) {
    if (lock.waits || !locker_.minds(lock.kind)) return;
    for (LongWait& wait : due) {
      if (wait.listed == lock.file && in_the_way(lock.mode, wait.mode)) {
        wait.blockers.push_back({lock.pid, lock.mode, false});
      }
    }
  });
  for (const LongWait& wait : due) wait.waiter->on_long_wait(wait.waited, wait.blockers);
}

}  // namespace flockfs
