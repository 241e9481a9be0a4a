#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "base/blocking_pool.h"
#include "base/clock.h"
#include "base/unique_fd.h"
#include "lock/file_id.h"
#include "lock/file_locker.h"
#include "lock/foreign_locks.h"
#include "lock/holder_probe.h"
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
  // By which a LockSnapshot knows it.
  [[nodiscard]] std::uint64_t id() const { return id_; }
  void reset();

  // The last descriptor of the client's open file description is closed; mappings of it may be left. Whether somebody
  // waits for the file.
  bool note_closed() const;

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
  bool alone = false;                 // it joins no lock that its process has, and none joins it
  bool made = false;                  // the file has just been made: what is known of its number is of one that is gone
};

enum class WaitEnd : std::uint8_t {
  kGranted,
  kTimedOut,
  kInterrupted,  // a caught or fatal signal is pending for the waiting thread
  kStopped,      // stop_waits()
  kDeadlock,     // it could never have ended (DESIGN 1.7)
  kLost,         // a foreign writer slipped in while a shared lock was made exclusive (DESIGN 1.6)
  kFailed,       // the source's file system refused; LockOutcome::error
};

struct LockOutcome {
  WaitEnd end = WaitEnd::kFailed;
  int error = 0;         // errno value, for kFailed
  Hold hold;             // valid for kGranted only, and not for a flock(2)
  bool gave_up = false;  // of a flock(2): the open's own lock was given up meanwhile
  Duration waited{};
};

// A wait that is so long is worth a warning.
inline constexpr Duration kLongWait = std::chrono::seconds(10);

using WaitId = std::uint64_t;

// Who stands in the way of a request.
struct Blocker {
  pid_t pid = 0;  // the process; 0 or less: cannot be seen
  LockMode mode = LockMode::kShared;
  bool through_mirror = false;
  friend bool operator==(const Blocker&, const Blocker&) = default;
};

// The one who waits. Kept by the engine from park() until it has been told the outcome.
class LockWaiter {
 public:
  virtual ~LockWaiter() = default;
  // Called inside park(), before the request is queued and any outcome can come, with no mutex held: the place to
  // arrange for interrupt(id). Whether it has to wait is not known yet.
  virtual void on_parked(WaitId id) = 0;
  // Called once if it has to wait, and then before on_outcome(), with no mutex held, by whichever thread found that
  // out: neither park() has got the lock, nor does it join what its process has. Not for a request that got it so, or
  // was refused it in the same moment.
  virtual void on_wait() = 0;
  // Called exactly once, with no mutex held, by whichever thread ended the wait (park() itself, a thread that released
  // the lock, a blocking thread, the engine's keeper). The waiter is destroyed after it returns.
  virtual void on_outcome(LockOutcome outcome) = 0;
  // Called once if the wait has lasted for LockEngineConfig::long_wait, by the keeper, with no mutex held. May run
  // while another thread is in on_outcome(): it may use only what is constant.
  virtual void on_long_wait(Duration waited, const std::vector<Blocker>& blockers) = 0;
  // Called once, like on_long_wait(), if the wait seems to be for processes that wait for this one, but one of them may
  // still go on.
  virtual void on_possible_deadlock(const std::vector<pid_t>& processes) = 0;
  // The file as the log names it, for whoever looks at a LockSnapshot; called like on_long_wait(), however often.
  [[nodiscard]] virtual std::string path() const { return {}; }
};

// One who waits, at the moment of a LockSnapshot.
struct WaitingLock {
  FileId file;
  LockMode mode = LockMode::kShared;
  pid_t process = 0;  // 0: cannot be seen
  Duration waited{};
  bool possible_deadlock = false;  // on_possible_deadlock() has been called
  std::shared_ptr<LockWaiter> waiter;
  // Those who have the lock in its way, the first LockSnapshot::kMostBlockers of them. If nobody has, the one before it
  // in the queue.
  std::vector<Blocker> blocked_by;
};

// Who holds and who waits. Taken in steps, so that each entry is right but all together are not one moment.
struct LockSnapshot {
  static constexpr std::size_t kMostBlockers = 32;

  std::unordered_map<std::uint64_t, LockMode> held;  // what the kernel holds, by Hold::id()
  std::vector<WaitingLock> waiting;                  // who has waited longest first
};

// What became of a client's flock(2).
struct FlockOutcome {
  int error = 0;      // errno value; EWOULDBLOCK: not to be had at once
  bool lost = false;  // and the lock of the open is gone for a while (DESIGN 1.4)
};

// Who holds and who waits for each file of one mirror. Thread-safe. Destroy it after every Hold and with no waits left.
//
// A process that has a lock on the file already joins it: its further opens share that lock, which is made exclusive if
// one of them writes and stays so until the last of them is closed. Whether it has is asked of /proc, and only when a
// request would have to wait for a client of the mirror.
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

  // The same for one whose process holds the file already, or so it may be: joins that lock. Looks at /proc: not for
  // FUSE workers. Never waits.
  virtual std::optional<LockOutcome> try_join(LockRequest& request) = 0;

  // Queues the request behind those that wait already; tries at once. Never blocks. After stop_waits(): kStopped.
  virtual void park(LockRequest request, std::shared_ptr<LockWaiter> waiter) = 0;

  // Whom of the mirror's clients a request for this lock would have to wait for: holders, and whoever waits already.
  // Nobody, although try_acquire() refuses: then it is somebody outside. Never blocks.
  [[nodiscard]] virtual std::vector<Blocker> blockers(const FileId& file, LockMode mode) const = 0;

  // The kernel sent INTERRUPT for this wait. Looks at the thread's pending signals now and every 50 ms from now on
  // (there is one INTERRUPT for each request), and ends the wait when one is caught or fatal. Unknown ids are ignored:
  // the wait has ended. Never blocks; may be called under a mutex of the caller (libfuse calls it under the request's).
  virtual void interrupt(WaitId id) = 0;

  // flock(2) of a client on the open file description of `hold`, on top of its open's lock, below which it never goes.
  // Those of one process exclude one another by their open file descriptions, as everywhere. Never blocks.
  virtual FlockOutcome try_flock(const Hold& hold, LockMode mode) = 0;
  // The mirror's clients that are in the way of try_flock(). Nobody, although it fails: then it is somebody outside.
  // Never blocks.
  [[nodiscard]] virtual std::vector<Blocker> flock_blockers(const Hold& hold, LockMode mode) = 0;
  virtual void unlock_flock(const Hold& hold) = 0;

  // Waits for it. A shared lock is given up while an exclusive one is waited for, and had again before the outcome
  // (kGranted without a Hold) is told, or as soon as it can be had if the wait ends otherwise. `process` calls, which
  // need not be the one that opened it, in the thread `tid`.
  virtual void park_flock(const Hold& hold, LockMode mode, pid_t process, pid_t tid,
                          std::shared_ptr<LockWaiter> waiter) = 0;

  // Ends all waits now and each later one at once with kStopped. What is held stays.
  virtual void stop_waits() = 0;

  // Ends the engine's own thread and what it has in the pool: from then on only the callers' threads tell outcomes. For
  // the end, after stop_waits() and when no park() comes any more; holds may be released after it.
  virtual void end() = 0;

  [[nodiscard]] virtual Stats stats() const = 0;

  // For somebody who wants to see it all. Stalls nobody, however much that is, but reads /proc/locks if anybody waits:
  // not for FUSE workers. Whoever lets go of the result may end waiters, so: under no mutex.
  [[nodiscard]] virtual LockSnapshot snapshot() = 0;

 protected:
  LockEngine() = default;
  // A Hold that calls release(file, id, fd) of this engine when it ends.
  Hold make_hold(const FileId& file, std::uint64_t id, LockMode mode, UniqueFd fd);

 private:
  friend class Hold;
  virtual void release(const FileId& file, std::uint64_t id, UniqueFd fd) = 0;
  virtual bool closed(const FileId& file, std::uint64_t id) = 0;

 protected:
  static const FileId& file_of(const Hold& hold) { return hold.file_; }
  static std::uint64_t id_of(const Hold& hold) { return hold.id_; }
};

// What happens when a process opens a file again that it holds already.
enum class Reopen : std::uint8_t {
  kJoin,
  kWait,  // each open stands for itself; a thread that would wait for its own open gets EDEADLK
};

// What the engine works with. Everything is used from several threads and must outlive the engine.
struct LockEngineConfig {
  FileLocker& locker;
  SignalProbe& signals;
  ForeignLocks& foreign;
  HolderProbe& holders;
  Clock& clock;  // steady_clock's time, since the keeper sleeps by it
  BlockingPool& pool;
  Duration long_wait = kLongWait;
  Reopen reopen = Reopen::kJoin;
};

// Starts the engine and its keeper thread (so: after the last fork). nullptr with errno if no thread can be had.
[[nodiscard]] std::unique_ptr<LockEngine> make_lock_engine(const LockEngineConfig& config);

}  // namespace flockfs
