#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <unordered_map>
#include <vector>

#include "base/blocking_pool.h"
#include "base/clock.h"
#include "base/mutex.h"
#include "lock/signal_probe.h"
#include "tree/inode.h"

namespace flockfs {

// Opens of source files where open(2) itself may wait: for the holder of a lease (Samba, NFS delegations), for a
// server, for another FUSE daemon. They run in threads of the pool, a few for each file however many wait for it; the
// client's signals and a stop end one at once, even where the system call does not give in. Thread-safe.
class SlowOpens {
 public:
  struct Opened {
    int error =
        0;  // EINTR: a signal of the client; ENOTCONN: stop(); ETIMEDOUT: the deadline; EAGAIN: given up, or no thread
    UniqueFd fd;
  };
  using Done = std::function<void(Opened)>;
  using Id = std::uint64_t;

  // Both outlive this.
  SlowOpens(BlockingPool& pool, SignalProbe& probe) : pool_(pool), probe_(probe) {}
  // REQUIRES: stop() was called and the pool is idle.
  ~SlowOpens() = default;

  // Opens and calls `done` exactly once, from some thread and under no mutex. `arrange(id)` is called before that can
  // be, so that interrupt(id) can be arranged for. `on_wait` is called once, and perhaps at the same time as `done`, if
  // open(2) does not return soon.
  void open(const InodePtr& inode, int flags, pid_t tid, const std::function<void(Id)>& arrange, Done done,
            std::function<void()> on_wait = {}, std::optional<TimePoint> deadline = std::nullopt);

  // The kernel sent INTERRUPT. Never waits; may be called under a mutex of the caller.
  void interrupt(Id id);

  // Ends one with EAGAIN. To be called after its open() has returned.
  void give_up(Id id);

  // Ends all with ENOTCONN, now and from now on.
  void stop();

 private:
  struct Task;
  using TaskPtr = std::shared_ptr<Task>;

  void start_some();
  void run(const TaskPtr& task);
  void start_watching();
  void watch();
  void say_waiting(const TaskPtr& task);
  void end(const TaskPtr& task, int why);
  void finish(const TaskPtr& task, Opened opened);
  TaskPtr next_to_start() REQUIRES(mutex_);
  void give_back(const TaskPtr& task) REQUIRES(mutex_);

  BlockingPool& pool_;
  SignalProbe& probe_;
  Mutex mutex_;
  CondVar ended_;  // for watch(): some watched task has ended
  std::unordered_map<Id, TaskPtr> tasks_ GUARDED_BY(mutex_);
  std::deque<TaskPtr> queue_ GUARDED_BY(mutex_);  // not started yet, in the order of their coming
  std::unordered_map<const Inode*, unsigned> running_ GUARDED_BY(mutex_);
  std::vector<TaskPtr> watched_ GUARDED_BY(mutex_);
  bool watching_ GUARDED_BY(mutex_) = false;
  Id last_id_ GUARDED_BY(mutex_) = 0;
  bool stopped_ GUARDED_BY(mutex_) = false;
};

}  // namespace flockfs
