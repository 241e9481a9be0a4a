#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <random>
#include <set>
#include <string>
#include <thread>
#include <unordered_map>
#include <utility>
#include <vector>

#include "base/blocking_pool.h"
#include "base/clock.h"
#include "base/mutex.h"
#include "lock/lock_file_backoff.h"
#include "lock/signal_probe.h"
#include "mirror/lock_files.h"

namespace flockfs {

// Opens that wait for somebody else's lock file. While they wait they hold nothing. One thread knows when each is due;
// the looks at the source, which may wait for its disk, are made by a few jobs of the pool, however many wait. The
// client's signals, its deadline and a stop end a wait at once. Thread-safe.
class LockFileWaits {
 public:
  enum class End : std::uint8_t {
    kFree,  // the lock files were not there a moment ago: try to make them
    kTimedOut,
    kInterrupted,
    kStopped,
  };
  struct Wanted {
    std::vector<Inode::Name> names;
    pid_t tid = 0;                      // whose signals count; 0: cannot be seen, every interrupt is real
    std::optional<TimePoint> deadline;  // none: for ever
    TimePoint long_at;                  // when on_long is called, once
    LockFileBackoff backoff;            // as far as earlier waits of this open have come
    std::string path;                   // of the lock file, and who waits for it since when: for waiting()
    pid_t process = 0;
    TimePoint since;
  };
  struct Waiting {
    std::string path;
    pid_t process = 0;
    TimePoint since;
  };
  using Id = std::uint64_t;
  using Done = std::function<void(End, LockFileBackoff)>;

  // All outlive this.
  LockFileWaits(BlockingPool& pool, SignalProbe& probe, const LockFiles& files);
  // REQUIRES: stop() was called and the pool is idle.
  ~LockFileWaits();
  LockFileWaits(const LockFileWaits&) = delete;
  LockFileWaits& operator=(const LockFileWaits&) = delete;

  // Starts the thread.
  Status start();

  // Calls `done` exactly once, from some thread and under no mutex. `arrange(id)` is called before that can be, so that
  // interrupt(id) can be arranged for. `on_long` may run while another thread is in `done`.
  void wait(Wanted wanted, const std::function<void(Id)>& arrange, Done done, std::function<void()> on_long);

  // The kernel sent INTERRUPT. Never waits; may be called under a mutex of the caller.
  void interrupt(Id id) EXCLUDES(mutex_);

  // All who wait, for somebody to look at.
  [[nodiscard]] std::vector<Waiting> waiting() const EXCLUDES(mutex_);

  // Ends all with kStopped, now and from now on.
  void stop() EXCLUDES(mutex_);

  // Ends the thread.
  void end() EXCLUDES(mutex_);

 private:
  struct Wait;
  using WaitPtr = std::shared_ptr<Wait>;
  enum class Turn : std::uint8_t { kNone, kLook, kOver };

  void run() EXCLUDES(mutex_);
  void attend(const WaitPtr& wait) EXCLUDES(mutex_);
  Turn turn_of(const WaitPtr& wait, TimePoint at) REQUIRES(mutex_);
  void look_soon(const WaitPtr& wait) EXCLUDES(mutex_);
  void work() EXCLUDES(mutex_);
  void look(const WaitPtr& wait) EXCLUDES(mutex_);
  void finish(const WaitPtr& wait, End end) EXCLUDES(mutex_);
  void schedule(const WaitPtr& wait) REQUIRES(mutex_);
  void unschedule(const WaitPtr& wait) REQUIRES(mutex_);

  BlockingPool& pool_;
  SignalProbe& probe_;
  const LockFiles& files_;

  mutable Mutex mutex_;
  CondVar changed_;
  std::unordered_map<Id, WaitPtr> waits_ GUARDED_BY(mutex_);
  std::set<std::pair<TimePoint, Id>> due_ GUARDED_BY(mutex_);
  std::deque<WaitPtr> looks_ GUARDED_BY(mutex_);  // for the jobs
  unsigned jobs_ GUARDED_BY(mutex_) = 0;
  std::minstd_rand random_ GUARDED_BY(mutex_);
  Id last_id_ GUARDED_BY(mutex_) = 0;
  bool stopped_ GUARDED_BY(mutex_) = false;
  bool ends_ GUARDED_BY(mutex_) = false;
  std::thread thread_;
};

}  // namespace flockfs
