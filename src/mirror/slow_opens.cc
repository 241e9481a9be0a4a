#include "mirror/slow_opens.h"

#include <algorithm>
#include <chrono>
#include <utility>

namespace flockfs {
namespace {

// There is one INTERRUPT for a request, and it need not be for a signal that ends the wait: look again this often.
constexpr auto kLookAgain = std::chrono::milliseconds(50);
// Threads that wait for one file at a time: as one comes through, the next one goes. So those who wait for one file
// leave threads for all others.
constexpr unsigned kMostForOneFile = 8;

}  // namespace

// Guarded by SlowOpens::mutex_ but for the point, which guards itself.
struct SlowOpens::Task {
  Task(BlockingPool& pool, Id id_in, InodePtr inode_in, int flags_in, pid_t tid_in, Done done_in)
      : id(id_in), inode(std::move(inode_in)), flags(flags_in), tid(tid_in), point(pool), done(std::move(done_in)) {}
  const Id id;
  const InodePtr inode;
  const int flags;
  const pid_t tid;
  InterruptiblePoint point;
  Done done;  // empty once somebody has taken the duty to call it
  TimePoint waits_at;
  std::function<void()> on_wait;  // empty once it has been called
  std::optional<TimePoint> deadline;
  bool interrupted = false;
  bool arranged = false;  // until then nobody but open() may call it
  int why_ended = 0;      // the error with which somebody has ended it, its system call included
  int ended_early = 0;    // the error that came before it was arranged
};

void SlowOpens::open(const InodePtr& inode, int flags, pid_t tid, const std::function<void(Id)>& arrange, Done done,
                     std::function<void()> on_wait, std::optional<TimePoint> deadline) {
  TaskPtr task;
  {
    MutexLock lock(mutex_);
    task = std::make_shared<Task>(pool_, ++last_id_, inode, flags, tid, std::move(done));
    task->waits_at = now() + kLookAgain;
    task->on_wait = std::move(on_wait);
    task->deadline = deadline;
    if (stopped_) task->ended_early = ENOTCONN;
    tasks_.emplace(task->id, task);
  }
  arrange(task->id);
  int error = 0;
  {
    MutexLock lock(mutex_);
    task->arranged = true;
    error = task->ended_early;
    if (error == 0) queue_.push_back(task);
  }
  if (error != 0) {
    finish(task, {error, {}});
    return;
  }
  start_some();
  bool watch = false;
  {
    MutexLock lock(mutex_);
    watch = task->done && (task->on_wait || task->deadline);
    if (watch) watched_.push_back(task);
  }
  if (watch) start_watching();
}

// Starts as many of the queue as there are threads for. If there is not one thread for anything, the first is refused:
// nobody would ever come back to it.
void SlowOpens::start_some() {
  for (;;) {
    TaskPtr task;
    {
      MutexLock lock(mutex_);
      task = next_to_start();
      if (!task) return;
      ++running_[task->inode.get()];
    }
    if (pool_.run([this, task] { run(task); })) continue;
    {
      MutexLock lock(mutex_);
      give_back(task);
      if (!running_.empty()) {  // one that still runs comes by here when it has ended
        queue_.push_front(task);
        return;
      }
    }
    finish(task, {EAGAIN, {}});
  }
}

void SlowOpens::give_up(Id id) {
  TaskPtr task;
  {
    MutexLock lock(mutex_);
    const auto entry = tasks_.find(id);
    if (entry == tasks_.end()) return;
    task = entry->second;
  }
  end(task, EAGAIN);
}

// First ends the system call, then answers: it need not give in (a hard NFS mount), and the client must not wait for
// that. Where its thread comes back first, that tells why all the same.
void SlowOpens::end(const TaskPtr& task, int why) {
  {
    MutexLock lock(mutex_);
    task->why_ended = why;
  }
  task->point.interrupt();
  finish(task, {why, {}});
}

SlowOpens::TaskPtr SlowOpens::next_to_start() {
  const auto next = std::find_if(queue_.begin(), queue_.end(), [this](const TaskPtr& task) REQUIRES(mutex_) {
    const auto running = running_.find(task->inode.get());
    return running == running_.end() || running->second < kMostForOneFile;
  });
  if (next == queue_.end()) return nullptr;
  TaskPtr task = std::move(*next);
  queue_.erase(next);
  return task;
}

void SlowOpens::give_back(const TaskPtr& task) {
  const auto running = running_.find(task->inode.get());
  if (--running->second == 0) running_.erase(running);
}

void SlowOpens::run(const TaskPtr& task) {
  Opened opened{EINTR, {}};
  if (task->point.enter()) {
    auto fd = task->inode->open(task->flags);
    task->point.leave();
    opened.error = fd ? 0 : fd.error().code;
    if (fd) opened.fd = *std::move(fd);
  }
  {
    MutexLock lock(mutex_);
    give_back(task);
  }
  finish(task, std::move(opened));
  start_some();
}

// Whoever comes first calls `done`; what comes later is dropped.
void SlowOpens::finish(const TaskPtr& task, Opened opened) {
  Done done;
  {
    MutexLock lock(mutex_);
    done = std::exchange(task->done, nullptr);
    if (opened.error == EINTR && task->why_ended != 0) opened.error = task->why_ended;
    tasks_.erase(task->id);
    std::erase(queue_, task);
    if (std::erase(watched_, task) != 0) ended_.notify_all();
  }
  if (done) done(std::move(opened));
}

void SlowOpens::interrupt(Id id) {
  {
    MutexLock lock(mutex_);
    const auto entry = tasks_.find(id);
    if (entry == tasks_.end()) return;
    entry->second->interrupted = true;
    if (std::find(watched_.begin(), watched_.end(), entry->second) == watched_.end()) watched_.push_back(entry->second);
    ended_.notify_all();
  }
  start_watching();
}

// Reading /proc is not for the thread that delivers an interrupt. With no thread to look, signals are taken for real.
void SlowOpens::start_watching() {
  {
    MutexLock lock(mutex_);
    if (watched_.empty() || std::exchange(watching_, true)) return;
  }
  if (pool_.run([this] { watch(); })) return;
  std::vector<TaskPtr> blind;
  {
    MutexLock lock(mutex_);
    watching_ = false;
    blind = watched_;
  }
  for (const TaskPtr& task : blind) task->point.interrupt();
}

void SlowOpens::watch() {
  for (;;) {
    std::vector<std::pair<TaskPtr, bool>> watched;
    {
      MutexLock lock(mutex_);
      if (watched_.empty()) {
        watching_ = false;
        return;
      }
      for (const TaskPtr& task : watched_) watched.emplace_back(task, task->interrupted);
    }
    for (const auto& [task, interrupted] : watched) {
      say_waiting(task);
      const bool late = task->deadline && now() >= *task->deadline;
      if (!late && (!interrupted || !probe_.must_end(task->tid))) continue;
      end(task, late ? ETIMEDOUT : EINTR);
    }
    MutexLock lock(mutex_);
    std::erase_if(watched_,
                  [](const TaskPtr& task) { return !task->interrupted && !task->on_wait && !task->deadline; });
    if (watched_.empty()) continue;
    TimePoint next = now() + kLookAgain;
    for (const TaskPtr& task : watched_) next = std::min(next, task->deadline.value_or(next));
    ended_.wait_until(mutex_, next);
  }
}

void SlowOpens::say_waiting(const TaskPtr& task) {
  std::function<void()> say;
  {
    MutexLock lock(mutex_);
    if (!task->done || now() < task->waits_at) return;
    say = std::exchange(task->on_wait, nullptr);
  }
  if (say) say();
}

void SlowOpens::stop() {
  std::vector<TaskPtr> tasks;
  {
    MutexLock lock(mutex_);
    stopped_ = true;
    for (auto& [id, task] : tasks_) {
      if (task->arranged) {
        tasks.push_back(task);
      } else {
        task->ended_early = ENOTCONN;
      }
    }
  }
  for (const TaskPtr& task : tasks) end(task, ENOTCONN);
}

}  // namespace flockfs
