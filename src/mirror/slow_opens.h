#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <unordered_map>

#include "base/blocking_pool.h"
#include "base/mutex.h"
#include "lock/signal_probe.h"
#include "mirror/fuse_api.h"
#include "tree/inode.h"

namespace flockfs {

// Opens of source files where open(2) itself may wait: for the holder of a lease (Samba, NFS delegations), for a
// server, for another FUSE daemon. Each runs in a thread of the pool; the client's signals and a stop end it at once,
// even where the system call does not give in. Thread-safe.
class SlowOpens {
 public:
  struct Opened {
    int error = 0;  // EINTR: a signal of the client; ENOTCONN: stop()
    UniqueFd fd;
  };
  using Done = std::function<void(Opened)>;

  // Both outlive this.
  SlowOpens(BlockingPool& pool, SignalProbe& probe) : pool_(pool), probe_(probe) {}
  // REQUIRES: stop() was called and the pool has ended.
  ~SlowOpens() = default;

  // Opens and calls `done` exactly once, from some thread and under no mutex; EAGAIN at once, from this thread, when no
  // thread can be had. `arrange(id)` is called before, so that interrupt(id) can be arranged for.
  void open(const InodePtr& inode, int flags, pid_t tid, const std::function<void(std::uint64_t)>& arrange, Done done);

  // The kernel sent INTERRUPT. Never waits; may be called under a mutex of the caller.
  void interrupt(std::uint64_t id);

  // Ends all with ENOTCONN, now and from now on.
  void stop();

 private:
  struct Task;

  void run(const std::shared_ptr<Task>& task, const InodePtr& inode, int flags);
  void watch(const std::shared_ptr<Task>& task);
  bool finish(const std::shared_ptr<Task>& task, Opened opened);

  BlockingPool& pool_;
  SignalProbe& probe_;
  Mutex mutex_;
  std::unordered_map<std::uint64_t, std::shared_ptr<Task>> tasks_ GUARDED_BY(mutex_);
  std::uint64_t last_id_ GUARDED_BY(mutex_) = 0;
  bool stopped_ GUARDED_BY(mutex_) = false;
};

}  // namespace flockfs
