#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "base/blocking_pool.h"
#include "base/clock.h"
#include "base/unique_fd.h"
#include "lock/file_id.h"
#include "lock/file_locker.h"
#include "lock/foreign_locks.h"
#include "lock/lock_mode.h"
#include "lock/signal_probe.h"

namespace flockfs {

class LockEngine;

// A lock that is held, and the descriptor whose open file description carries it. Move-only; the owner may be any one
// thread at a time. Its end (or reset()) gives the lock back, closes the descriptor and lets the next waiters of the
// file in: completions of theirs may run inside, so call it under no mutex.
class Hold {
 public:
  Hold() = default;
  Hold(Hold&& other) noexcept;
  Hold& operator=(Hold&& other) noexcept;
  ~Hold() { reset(); }

  [[nodiscard]] bool valid() const { return engine_ != nullptr; }
  [[nodiscard]] int fd() const { return fd_.get(); }
  [[nodiscard]] LockMode mode() const { return mode_; }
  void reset();

 private:
  friend class LockEngine;
  LockEngine* engine_ = nullptr;
  FileId file_;
  std::uint64_t id_ = 0;
  LockMode mode_ = LockMode::kShared;
  UniqueFd fd_;
};

struct LockRequest {
  FileId file;
  LockMode mode = LockMode::kShared;
  Owner owner;
  pid_t tid = 0;  // the thread that waits, for the look at its signals; 0: cannot be seen, every interrupt is real
  UniqueFd fd;    // of the file, opened for this lock alone: nobody else may hold this open file description
  std::optional<TimePoint> deadline;  // none: for ever
};

enum class WaitEnd : std::uint8_t {
  kGranted,
  kTimedOut,
  kInterrupted,  // a caught or fatal signal is pending for the waiting thread
  kStopped,      // stop_waits()
  kFailed,       // the source's file system refused; LockOutcome::error
};

struct LockOutcome {
  WaitEnd end = WaitEnd::kFailed;
  int error = 0;  // errno value, for kFailed
  Hold hold;      // valid for kGranted only
  Duration waited{};
};

// A wait that is so long is worth a warning.
inline constexpr Duration kLongWait = std::chrono::seconds(10);

using WaitId = std::uint64_t;

// Who stands in the way of a request.
struct Blocker {
  pid_t pid = 0;  // the process; 0: cannot be seen
  LockMode mode = LockMode::kShared;
  bool through_mirror = false;
};

// The one who waits. Kept by the engine from park() until it has been told the outcome.
class LockWaiter {
 public:
  virtual ~LockWaiter() = default;
  // Called inside park(), before any outcome can come, with no mutex held: the place to arrange for interrupt(id).
  virtual void on_parked(WaitId id) = 0;
  // Called exactly once, with no mutex held, by whichever thread ended the wait (park() itself, a thread that released
  // the lock, a blocking thread, the engine's keeper). The waiter is destroyed after it returns.
  virtual void on_outcome(LockOutcome outcome) = 0;
  // Called once if the wait has lasted for LockEngineConfig::long_wait, by the keeper, with no mutex held. May run
  // while another thread is in on_outcome(): it may use only what is constant.
  virtual void on_long_wait(Duration waited, const std::vector<Blocker>& blockers) = 0;
};

// Who holds and who waits for each file of one mirror. Thread-safe. Destroy it after every Hold and with no waits left.
//
// Among its own clients it is first come, first served: a request waits while an earlier one for the same file does, or
// while an incompatible Hold exists; a batch of shared waiters is let in together. Holders outside the mirror are
// waited for by flock(2) itself, in a thread of the blocking pool, one for each file however many wait for it; where no
// thread can be had the keeper polls.
class LockEngine {
 public:
  struct Stats {
    std::size_t held = 0;
    std::size_t waiting = 0;
  };

  LockEngine(const LockEngine&) = delete;
  LockEngine& operator=(const LockEngine&) = delete;
  virtual ~LockEngine() = default;

  // The lock if it can be had at once without passing anybody who waits (takes request.fd), or the failure; nullopt,
  // with the request untouched, if it would have to wait. Never blocks.
  virtual std::optional<LockOutcome> try_acquire(LockRequest& request) = 0;

  // Queues the request behind those that wait already; tries at once. Never blocks. After stop_waits(): kStopped.
  virtual void park(LockRequest request, std::shared_ptr<LockWaiter> waiter) = 0;

  // Whom of the mirror's clients a request for this lock would have to wait for: holders, and whoever waits already.
  // Nobody, although try_acquire() refuses: then it is somebody outside. Never blocks.
  [[nodiscard]] virtual std::vector<Blocker> blockers(const FileId& file, LockMode mode) const = 0;

  // The kernel sent INTERRUPT for this wait. Looks at the thread's pending signals now and every 50 ms from now on
  // (there is one INTERRUPT for each request), and ends the wait when one is caught or fatal. Unknown ids are ignored:
  // the wait has ended. Never blocks; may be called under a mutex of the caller (libfuse calls it under the request's).
  virtual void interrupt(WaitId id) = 0;

  // Ends all waits now and each later one at once with kStopped. What is held stays.
  virtual void stop_waits() = 0;

  // Ends the engine's own thread and what it has in the pool: from then on only the callers' threads tell outcomes. For
  // the end, after stop_waits() and when no park() comes any more; holds may be released after it.
  virtual void end() = 0;

  [[nodiscard]] virtual Stats stats() const = 0;

 protected:
  LockEngine() = default;
  // A Hold that calls release(file, id, fd) of this engine when it ends.
  Hold make_hold(const FileId& file, std::uint64_t id, LockMode mode, UniqueFd fd);

 private:
  friend class Hold;
  virtual void release(const FileId& file, std::uint64_t id, UniqueFd fd) = 0;
};

// What the engine works with. Everything is used from several threads and must outlive the engine.
struct LockEngineConfig {
  FileLocker& locker;
  SignalProbe& signals;
  ForeignLocks& foreign;
  Clock& clock;  // steady_clock's time, since the keeper sleeps by it
  BlockingPool& pool;
  Duration long_wait = kLongWait;
};

// Starts the engine and its keeper thread (so: after the last fork). nullptr with errno if no thread can be had.
[[nodiscard]] std::unique_ptr<LockEngine> make_lock_engine(const LockEngineConfig& config);

}  // namespace flockfs
