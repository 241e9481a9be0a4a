// The waits of RecordLocks: F_SETLKW for a lock that somebody else holds.

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <utility>

#include "mirror/record_owner.h"

namespace flockfs {
namespace {

// Of the pool's threads: those who wait to open a file want some too.
constexpr unsigned kMostThreads = 256;
constexpr std::chrono::milliseconds kFirstPause{1};
constexpr std::chrono::milliseconds kLongestPause{20};

}  // namespace

void RecordLocks::start(const TaskPtr& task) {
  const OwnerPtr& owner = task->owner;
  if (!owner->file->inode->mount().open_may_wait) {
    take_turn(owner, [this, task] { attempt(task); });
  } else if (!config_.pool.run([=, this] { take_turn(task->owner, [this, task] { attempt(task); }); })) {
    poll_later(task);
  }
}

void RecordLocks::wait_for(const TaskPtr& task, const DescriptorPtr& descriptor) {
  bool first = false;
  int cancelled = 0;
  {
    MutexLock lock(mutex_);
    if (stopped_ && task->cancelled == 0) task->cancelled = ENOTCONN;
    first = task->id == 0 && task->cancelled == 0;
    if (first) {
      task->id = ++last_id_;
      waits_.emplace(task->id, task);
    }
  }
  if (first) task->arrange(task->id);
  {
    MutexLock lock(mutex_);
    cancelled = task->cancelled;
    task->on = descriptor;
    task->changes = task->owner->changes;
    if (cancelled == 0) task->point = std::make_shared<InterruptiblePoint>(config_.pool);
  }
  if (cancelled != 0) {
    finish(task, cancelled);
  } else if (!wait_in_thread(task)) {
    poll_later(task);
  }
}

bool RecordLocks::wait_in_thread(const TaskPtr& task) {
  {
    MutexLock lock(mutex_);
    if (threads_ >= kMostThreads) return false;
    ++threads_;
    task->blocked = true;
  }
  if (config_.pool.run([this, task] { block(task); })) return true;
  MutexLock lock(mutex_);
  --threads_;
  task->blocked = false;
  return false;
}

// In a thread of the pool. The answer comes from here, after the system call has returned: what the client is told is
// what the kernel holds.
void RecordLocks::block(const TaskPtr& task) {
  std::shared_ptr<InterruptiblePoint> point;
  DescriptorPtr on;
  {
    MutexLock lock(mutex_);
    point = task->point;
    on = task->on;
  }
  int error = EINTR;
  if (!deadlocks(task) && point->enter()) {
    error = wait_record_lock(on->fd.get(), task->lock);
    point->leave();
  }
  {
    MutexLock lock(mutex_);
    --threads_;
  }
  take_turn(task->owner, [this, task, error] { returned(task, error); });
}

// A thread is back from its wait. If anything of the owner's has changed meanwhile, nobody can say what came first, so
// it is asked for again: by then it is the owner's last request.
void RecordLocks::returned(const TaskPtr& task, int error) {
  const OwnerPtr& owner = task->owner;
  DescriptorPtr replaced;
  std::vector<TaskPtr> behind;
  bool changed = false;
  int cancelled = 0;
  {
    MutexLock lock(mutex_);
    task->blocked = false;
    if (task->on != owner->descriptor) {
      replaced = task->on;
      if (--owner->leaving == 0) behind.swap(owner->behind);
    }
    changed = task->changes != owner->changes;
    cancelled = task->cancelled;
  }
  if (replaced && error == 0) {
    (void)try_record_lock(replaced->fd.get(), {F_UNLCK, task->lock.start, task->lock.length});
  }
  for (const TaskPtr& other : behind) attempt(other);
  if (error == 0 && !replaced && !changed) {
    granted(task);
  } else if (error == 0 || (error == EINTR && cancelled == 0)) {
    attempt(task);
  } else {
    finish(task, error == EINTR ? cancelled : error);
  }
}

void RecordLocks::poll_later(const TaskPtr& task) {
  task->pause = std::clamp(task->pause * 2, kFirstPause, kLongestPause);
  bool stopped = false;
  {
    MutexLock lock(mutex_);
    stopped = stopped_;
    task->due = task->cancelled != 0 ? TimePoint{} : now() + task->pause;
    if (!stopped) polled_.push_back(task);
  }
  if (stopped) {  // nobody need come by any more
    take_turn(task->owner, [this, task] { attempt(task); });
  } else {
    config_.wake();
  }
}

std::optional<TimePoint> RecordLocks::poll() {
  std::vector<TaskPtr> due;
  {
    MutexLock lock(mutex_);
    const TimePoint at = now();
    const auto rest =
        std::partition(polled_.begin(), polled_.end(), [at](const TaskPtr& task) { return task->due > at; });
    due.assign(rest, polled_.end());
    polled_.erase(rest, polled_.end());
  }
  for (const TaskPtr& task : due) start(task);
  std::optional<TimePoint> next;
  MutexLock lock(mutex_);
  for (const TaskPtr& task : polled_) next = std::min(next.value_or(task->due), task->due);
  return next;
}

void RecordLocks::interrupt(WaitId id) {
  std::shared_ptr<InterruptiblePoint> point;
  {
    MutexLock lock(mutex_);
    const auto entry = waits_.find(id);
    if (entry == waits_.end() || entry->second->cancelled != 0) return;
    entry->second->cancelled = EINTR;
    entry->second->due = TimePoint{};
    point = entry->second->point;
  }
  if (point) point->interrupt();
  config_.wake();
}

void RecordLocks::stop() {
  std::vector<std::shared_ptr<InterruptiblePoint>> points;
  std::vector<TaskPtr> polled;
  {
    MutexLock lock(mutex_);
    stopped_ = true;
    for (const auto& [id, task] : waits_) {
      if (task->cancelled == 0) task->cancelled = ENOTCONN;
      if (task->point) points.push_back(task->point);
    }
    polled.swap(polled_);
  }
  for (const auto& point : points) point->interrupt();
  for (const TaskPtr& task : polled) take_turn(task->owner, [this, task] { attempt(task); });
}

}  // namespace flockfs
