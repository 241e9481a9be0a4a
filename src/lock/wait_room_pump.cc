// Asking the kernel on behalf of the queue. One thread at a time does so for a file (LockRecord::worker); whoever comes
// meanwhile need leave no word, since that thread looks at the queue again under the mutex before it stops.

#include <algorithm>
#include <cerrno>
#include <utility>

#include "lock/wait_room.h"

namespace flockfs {

namespace {

constexpr Duration kFirstPollPause = std::chrono::milliseconds(1);
constexpr Duration kLongestPollPause = std::chrono::milliseconds(20);

}  // namespace

void WaitRoom::pump(const FileId& file) {
  Aftermath after;
  Swept swept = Swept::kDone;
  {
    MutexLock lock(mutex_);
    LockRecord* record = table_.find(file);
    if (record == nullptr || record->worker != LockRecord::Worker::kNone) return;
    record->worker = LockRecord::Worker::kPumping;
    swept = sweep(*record, after);
    // Kept while the record goes to a thread of the pool.
    record->worker = swept == Swept::kDone ? LockRecord::Worker::kNone : LockRecord::Worker::kBlocked;
    table_.drop_if_idle(file, clock_.now());
  }
  if (swept == Swept::kBlockedOutside) hand_to_pool(file);
  see_to(std::move(after));
}

// Grants from the head of the queue while it goes. REQUIRES: the calling thread is the record's worker.
WaitRoom::Swept WaitRoom::sweep(LockRecord& record, Aftermath& after) {
  while (record.grantable() != nullptr) {
    if (try_head(record, after) == Swept::kBlockedOutside) return Swept::kBlockedOutside;
  }
  record.poll_pause = {};
  return Swept::kDone;
}

// The mutex is free while the kernel is asked; the wait may end in that time.
WaitRoom::Swept WaitRoom::try_head(LockRecord& record, Aftermath& after) {
  const WaitPtr wait = waits_.at(record.grantable()->wait_id);
  const Holder holder = holder_for(*wait);
  record.add_holder(holder);
  mutex_.unlock();
  const int error = locker_.try_lock(holder.fd, holder.mode);
  mutex_.lock();
  if (wait->state == Wait::State::kEnded) {
    if (error == 0) give_back(*wait);
    drop_holder(wait->request.file, record, holder.id);
    after.let_go.push_back(wait);
    return Swept::kDone;
  }
  if (error == 0) {
    grant(wait, record, holder.id, after);
    return Swept::kDone;
  }
  drop_holder(wait->request.file, record, holder.id);
  if (error == EWOULDBLOCK) return Swept::kBlockedOutside;
  end_wait(wait, WaitEnd::kFailed, error, after);
  return Swept::kDone;
}

Holder WaitRoom::holder_for(const Wait& wait) {
  const LockRequest& request = wait.request;
  return {++last_id_, request.mode, true, request.owner, wait.since, request.fd.get()};
}

void WaitRoom::drop_holder(const FileId& file, LockRecord& record, LockId id) {
  record.remove_holder(id);
  if (record.drained(clock_.now(), table_.times)) attend(file, record.yield_until());
}

// The kernel granted what nobody waits for any more. The mutex is free meanwhile.
void WaitRoom::give_back(const Wait& wait) {
  mutex_.unlock();
  (void)locker_.unlock(wait.request.fd.get());
  mutex_.lock();
}

// REQUIRES: the record's worker is kBlocked on behalf of the caller.
void WaitRoom::hand_to_pool(const FileId& file) {
  {
    MutexLock lock(mutex_);
    ++jobs_;
  }
  if (pool_.run([this, file] { block_for(file); })) return;
  MutexLock lock(mutex_);
  if (--jobs_ == 0) no_jobs_.notify_all();
  LockRecord& record = *table_.find(file);
  record.worker = LockRecord::Worker::kNone;
  const TimePoint now = clock_.now();
  record.poll_pause = std::clamp(record.poll_pause * 2, kFirstPollPause, kLongestPollPause);
  record.poll_at = now + record.poll_pause;
  attend(file, *record.poll_at);
  table_.drop_if_idle(file, now);
}

// A job of the pool: waits in the kernel for one head of the queue after the other, until the queue is empty or whoever
// is next waits for a client of the mirror.
void WaitRoom::block_for(const FileId& file) {
  for (bool again = true; again;) {
    Aftermath after;
    again = block_once(file, after);
    see_to(std::move(after));
  }
  MutexLock lock(mutex_);
  if (--jobs_ == 0) no_jobs_.notify_all();
}

bool WaitRoom::block_once(const FileId& file, Aftermath& after) {
  MutexLock lock(mutex_);
  LockRecord& record = *table_.find(file);  // there, since its worker is this thread
  bool again = false;
  if (record.grantable() != nullptr) {
    const WaitPtr wait = waits_.at(record.grantable()->wait_id);
    after.let_go.push_back(wait);
    wait->blocked_for = true;
    lock.unlock();
    const int error = wait_in_kernel(*wait);
    lock.lock();
    wait->blocked_for = false;
    settle(wait, record, error, after);
    again = sweep(record, after) == Swept::kBlockedOutside;
  }
  if (!again) {
    record.worker = LockRecord::Worker::kNone;
    table_.drop_if_idle(file, clock_.now());
  }
  return again;
}

int WaitRoom::wait_in_kernel(Wait& wait) {
  if (!wait.point.enter()) return EINTR;
  const int error = locker_.wait_lock(wait.request.fd.get(), wait.request.mode);
  wait.point.leave();
  return error;
}

void WaitRoom::settle(const WaitPtr& wait, LockRecord& record, int error, Aftermath& after) {
  if (wait->state == Wait::State::kEnded) {
    if (error == 0) give_back(*wait);
  } else if (error == 0) {
    const Holder holder = holder_for(*wait);
    record.add_holder(holder);
    grant(wait, record, holder.id, after);
  } else if (error != EINTR) {  // that was a signal for somebody else
    end_wait(wait, WaitEnd::kFailed, error, after);
  }
}

}  // namespace flockfs
