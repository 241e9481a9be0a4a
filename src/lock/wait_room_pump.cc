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
constexpr Duration kAfterAnError = std::chrono::seconds(1);

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
    record->worker = swept == Swept::kBlockedOutside ? LockRecord::Worker::kBlocked : LockRecord::Worker::kNone;
    table_.drop_if_idle(file, clock_.now());
  }
  if (swept == Swept::kBlockedOutside) hand_to_pool(file);
  see_to(std::move(after));
}

// Grants from the head of the queue while it goes. REQUIRES: the calling thread is the record's worker.
WaitRoom::Swept WaitRoom::sweep(LockRecord& record, Aftermath& after) {
  while (record.grantable() != nullptr) {
    if (const Swept swept = try_head(record, after); swept != Swept::kDone) return swept;
  }
  record.poll_pause = {};
  return Swept::kDone;
}

// The mutex is free while the kernel is asked; the wait may end in that time.
WaitRoom::Swept WaitRoom::try_head(LockRecord& record, Aftermath& after) {
  const WaitPtr wait = waits_.at(record.grantable()->wait_id);
  if (wait->place->want == Want::kUpgrade) return try_upgrade(wait, record, after);
  const Ask ask = ask_for(*wait, record);
  wait->asked = true;
  mutex_.unlock();
  const int error = ask.locker->try_lock(ask.fd, ask.mode);
  mutex_.lock();
  wait->asked = false;
  if (wait->state != Wait::State::kEnded && error == 0) {
    grant(wait, record, ask.holder, after);
    end_busy(wait->request.file, record, ask.holder, after);
    return Swept::kDone;
  }
  if (error == 0) give_back(ask);
  withdraw(ask, *wait, record, after);
  after.let_go.push_back(wait);
  if (wait->state == Wait::State::kEnded) return Swept::kDone;
  if (error == EWOULDBLOCK) return Swept::kBlockedOutside;
  return fail(wait, record, error, after);
}

WaitRoom::Swept WaitRoom::fail(const WaitPtr& wait, LockRecord& record, int error, Aftermath& after) {
  if (wait->internal) {  // the open file's own lock: it is had again as soon as the source lets it
    record.poll_at = clock_.now() + kAfterAnError;
    attend(wait->request.file, *record.poll_at);
    return Swept::kPolled;
  }
  end_wait(wait, WaitEnd::kFailed, error, after);
  if (wait->member == 0) return Swept::kDone;
  if (const Holder* holder = record.holder_of(wait->member)) regain(wait->request.file, record, *holder, after);
  return Swept::kDone;
}

// REQUIRES: the head of the queue is an upgrade, and nobody of the mirror is in its way.
WaitRoom::Swept WaitRoom::try_upgrade(const WaitPtr& wait, LockRecord& record, Aftermath& after) {
  const FileId file = wait->request.file;
  const pid_t process = wait->request.owner.tgid;
  const LockId id = upgradable(record, process, wait->place->holder);
  if (id == 0) {  // what it had has gone
    wait->place->want = Want::kLock;
    return Swept::kDone;
  }
  wait->asked = true;
  const int fresh = wait->request.fd.get();
  const Conversion conversion = upgrade(file, record, id, process, fresh, after);
  wait->asked = false;
  const bool ended = wait->state == Wait::State::kEnded;
  after.let_go.push_back(wait);
  if (conversion == Conversion::kDone) {
    Holder& holder = *record.holder(id);
    // A flock(2) that nobody wants any more is made shared again by end_busy(); a record lock has moved to `fresh`.
    if (!ended || locker_.flock_part() != &locker_) made_exclusive(holder, fresh);
    if (ended) {
      kept_[id].push_back(std::move(wait->request.fd));
    } else {
      Hold hold = add_member(record, holder, wait->request);
      end_wait(wait, WaitEnd::kGranted, 0, after).hold = std::move(hold);
    }
  } else if (!ended && conversion == Conversion::kLost) {
    end_wait(wait, WaitEnd::kLost, 0, after);
  } else if (!ended) {
    hold_off(wait, record);
  }
  end_busy(file, record, id, after);
  return Swept::kDone;
}

WaitRoom::Ask WaitRoom::ask_for(const Wait& wait, LockRecord& record) {
  const LockRequest& request = wait.request;
  if (wait.place->want == Want::kRegain) {
    Holder& holder = *record.holder(wait.place->holder);
    begin_busy(holder);
    record.take_up(holder, request.mode);
    return {holder.id, holder.all_lost ? &locker_ : locker_.flock_part(), holder.fd, request.mode};
  }
  const LockId id = ++last_id_;
  record.add_holder(new_holder(id, request, wait.since));
  record.changed_at = id;
  return {id, &locker_, request.fd.get(), request.mode};
}

// The kernel did not grant it, or to nobody.
void WaitRoom::withdraw(const Ask& ask, const Wait& wait, LockRecord& record, Aftermath& after) {
  const FileId& file = wait.request.file;
  if (wait.member == 0 && !wait.internal) {
    drop_holder(file, record, ask.holder, after);
    return;
  }
  Holder& holder = *record.holder(ask.holder);
  record.give_up(holder);
  if (record.drained(clock_.now(), table_.times)) attend(file, record.yield_until());
  const bool ended = wait.state == Wait::State::kEnded;
  if (ended && !holder.empty && wait.member != 0 && !stopped_) regain(file, record, holder, after);
  end_busy(file, record, ask.holder, after);
}

// The kernel granted what nobody waits for any more. The mutex is free meanwhile.
void WaitRoom::give_back(const Ask& ask) {
  mutex_.unlock();
  (void)ask.locker->unlock(ask.fd);
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
  const QueuedRequest* const head = record.grantable();
  if (head != nullptr && head->want == Want::kUpgrade) {
    again = sweep(record, after) == Swept::kBlockedOutside;
  } else if (head != nullptr) {
    const WaitPtr wait = waits_.at(head->wait_id);
    after.let_go.push_back(wait);
    const bool regains = head->want == Want::kRegain;
    Ask ask{0, &locker_, wait->request.fd.get(), wait->request.mode};
    if (regains) {  // not in the table as held meanwhile: others of ours may still be admitted behind it
      Holder& holder = *record.holder(head->holder);
      begin_busy(holder);
      ask = {holder.id, holder.all_lost ? &locker_ : locker_.flock_part(), holder.fd, wait->request.mode};
    }
    wait->blocked_for = wait->asked = true;
    lock.unlock();
    const int error = wait_in_kernel(*wait, ask);
    lock.lock();
    wait->blocked_for = wait->asked = false;
    settle(wait, record, ask, error, after);
    again = sweep(record, after) == Swept::kBlockedOutside;
  }
  if (!again) {
    record.worker = LockRecord::Worker::kNone;
    table_.drop_if_idle(file, clock_.now());
  }
  return again;
}

int WaitRoom::wait_in_kernel(Wait& wait, const Ask& ask) {
  int error = EINTR;
  if (wait.point.enter()) {
    error = ask.locker->wait_lock(ask.fd, ask.mode);
    wait.point.leave();
  }
  // Where it was not the wait that ended, it may be asked for once more (take_back()). One that ends from here on is
  // seen to have ended under the mutex.
  if (error == EINTR) wait.point.reset();
  return error;
}

// A client of the mirror has got what is in the way of the one for whom a thread blocks. The thread looks at the queue
// again: it would wait for that client, and whoever asks for the file, that client itself for more, for the thread.
void WaitRoom::wake_blocked(const LockRecord& record, Aftermath& after) {
  if (record.worker != LockRecord::Worker::kBlocked) return;
  for (const QueuedRequest& request : record.queue()) {
    const WaitPtr& wait = waits_.at(request.wait_id);
    if (wait->blocked_for) after.interrupted.push_back(wait);
  }
}

void WaitRoom::settle(const WaitPtr& wait, LockRecord& record, const Ask& ask, int error, Aftermath& after) {
  const FileId& file = wait->request.file;
  const bool ended = wait->state == Wait::State::kEnded;
  if (ended && error == 0) give_back(ask);
  if (!ended && error == 0) {
    LockId id = ask.holder;
    if (id != 0) {
      record.take_up(*record.holder(id), ask.mode);
    } else {
      id = ask_for(*wait, record).holder;
    }
    grant(wait, record, id, after);
  } else if (!ended && error != EINTR) {  // that was a signal for somebody else
    (void)fail(wait, record, error, after);
  }
  if (ask.holder == 0) return;
  const Holder& holder = *record.holder(ask.holder);
  if (ended && !holder.empty && wait->member != 0 && !stopped_) regain(file, record, holder, after);
  end_busy(file, record, ask.holder, after);
}

}  // namespace flockfs
