#include "mirror/slow_opens.h"

#include <fcntl.h>

#include <chrono>
#include <utility>
#include <vector>

namespace flockfs {
namespace {

// There is one INTERRUPT for a request, and it need not be for a signal that ends the wait: look again this often.
constexpr auto kLookAgain = std::chrono::milliseconds(50);

}  // namespace

// Guarded by SlowOpens::mutex_ but for the point, which guards itself.
struct SlowOpens::Task {
  Task(BlockingPool& pool, std::uint64_t id_in, pid_t tid_in, Done done_in)
      : id(id_in), tid(tid_in), point(pool), done(std::move(done_in)) {}
  const std::uint64_t id;
  const pid_t tid;
  InterruptiblePoint point;
  Done done;  // empty once somebody has taken the duty to call it
  bool watched = false;
  CondVar ended;  // for watch()
};

void SlowOpens::open(const InodePtr& inode, int flags, pid_t tid, const std::function<void(std::uint64_t)>& arrange,
                     Done done) {
  std::shared_ptr<Task> task;
  bool stopped = false;
  {
    MutexLock lock(mutex_);
    task = std::make_shared<Task>(pool_, ++last_id_, tid, std::move(done));
    stopped = stopped_;
    tasks_.emplace(task->id, task);
  }
  if (stopped) {
    finish(task, {ENOTCONN, {}});
    return;
  }
  arrange(task->id);
  if (!pool_.run([this, task, inode, flags] { run(task, inode, flags); })) finish(task, {EAGAIN, {}});
}

void SlowOpens::run(const std::shared_ptr<Task>& task, const InodePtr& inode, int flags) {
  Opened opened{EINTR, {}};
  if (task->point.enter()) {
    auto fd = inode->open(flags);
    task->point.leave();
    opened.error = fd ? 0 : fd.error().code;
    if (fd) opened.fd = *std::move(fd);
  }
  finish(task, std::move(opened));
}

bool SlowOpens::finish(const std::shared_ptr<Task>& task, Opened opened) {
  Done done;
  {
    MutexLock lock(mutex_);
    done = std::exchange(task->done, nullptr);
    tasks_.erase(task->id);
    task->ended.notify_all();
  }
  if (!done) return false;
  done(std::move(opened));
  return true;
}

void SlowOpens::interrupt(std::uint64_t id) {
  std::shared_ptr<Task> task;
  {
    MutexLock lock(mutex_);
    auto entry = tasks_.find(id);
    if (entry == tasks_.end() || std::exchange(entry->second->watched, true)) return;
    task = entry->second;
  }
  // Reading /proc is not for the thread that delivers the interrupt. With no thread to look, take the signal for real.
  if (!pool_.run([this, task] { watch(task); })) task->point.interrupt();
}

void SlowOpens::watch(const std::shared_ptr<Task>& task) {
  while (!probe_.must_end(task->tid)) {
    MutexLock lock(mutex_);
    if (!task->done) return;
    task->ended.wait_until(mutex_, std::chrono::steady_clock::now() + kLookAgain);
    if (!task->done) return;
  }
  // First end the system call, then answer: it need not give in (a hard NFS mount), and the client must not wait for
  // that.
  task->point.interrupt();
  finish(task, {EINTR, {}});
}

void SlowOpens::stop() {
  std::vector<std::shared_ptr<Task>> tasks;
  {
    MutexLock lock(mutex_);
    stopped_ = true;
    for (auto& [id, task] : tasks_) tasks.push_back(task);
  }
  for (const auto& task : tasks) {
    task->point.interrupt();
    finish(task, {ENOTCONN, {}});
  }
}

}  // namespace flockfs
