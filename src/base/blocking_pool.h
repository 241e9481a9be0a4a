#pragma once

#include <pthread.h>

#include <chrono>
#include <csignal>
#include <deque>
#include <functional>
#include <optional>
#include <vector>

#include "base/mutex.h"

namespace flockfs {

class InterruptiblePoint;

// Threads for jobs that may block for hours in a system call: each job has a thread of its own, made when it is needed
// and kept for a few seconds after it for the next one. Thread-safe.
//
// All signals are blocked in these threads except kWakeSignal, for which the constructor installs a handler that does
// nothing, without SA_RESTART: a system call in which a thread blocks ends with EINTR when InterruptiblePoint sends it.
//
// Threads inherit what belongs to the thread that calls run(): call it with the daemon's own credentials.
class BlockingPool {
 public:
  using IdleTime = std::chrono::milliseconds;
  static constexpr int kWakeSignal = SIGUSR1;

  // At most `max_threads` jobs at a time; one thread more repeats wake-up signals.
  explicit BlockingPool(unsigned max_threads, IdleTime keep_idle = std::chrono::seconds(3));
  // Ends and joins all threads; interrupts nothing. REQUIRES: no job is running, or each ends by itself; no run() and
  // no InterruptiblePoint any more.
  ~BlockingPool();
  BlockingPool(const BlockingPool&) = delete;
  BlockingPool& operator=(const BlockingPool&) = delete;

  // Starts the job on a thread of its own. False, with the job not run, when no thread can be had: all are busy, or the
  // system refuses one (EAGAIN: TasksMax, RLIMIT_NPROC, memory). Never waits for a thread.
  [[nodiscard]] bool run(std::function<void()> job) EXCLUDES(mutex_, poke_mutex_);

  // Returns when no job runs or waits for its thread: then nothing that jobs refer to is used any more. For the end,
  // when no run() comes any more.
  void wait_idle() EXCLUDES(mutex_);

  // Threads that exist now, idle ones included; without the one that repeats signals.
  [[nodiscard]] unsigned threads() const EXCLUDES(mutex_);

 private:
  friend class InterruptiblePoint;
  struct Start;

  static void* thread_main(void* argument);
  static void* poker_main(void* pool);
  void work(std::function<void()> job) EXCLUDES(mutex_);
  std::optional<std::function<void()>> next_job() EXCLUDES(mutex_);
  bool create_thread(std::function<void()> job) EXCLUDES(mutex_);
  void join_ended() EXCLUDES(mutex_);
  bool start_poker() EXCLUDES(poke_mutex_);
  void poke() EXCLUDES(poke_mutex_);

  // Constant after construction.
  const unsigned max_threads_;
  const IdleTime keep_idle_;

  mutable Mutex mutex_;
  CondVar work_;                                               // for idle threads: a job, or the end
  CondVar ended_;                                              // for the destructor: threads_ went down
  std::deque<std::function<void()>> jobs_ GUARDED_BY(mutex_);  // each is promised to an idle thread
  unsigned threads_ GUARDED_BY(mutex_) = 0;
  unsigned idle_ GUARDED_BY(mutex_) = 0;
  bool stopping_ GUARDED_BY(mutex_) = false;
  std::optional<pthread_t> to_join_ GUARDED_BY(mutex_);  // the thread that ended last; each joins the one before it
  std::chrono::steady_clock::time_point refused_until_ GUARDED_BY(mutex_);

  Mutex poke_mutex_;  // leaf; also guards the state of all InterruptiblePoints
  CondVar poke_work_;
  std::vector<InterruptiblePoint*> poked_ GUARDED_BY(poke_mutex_);
  std::chrono::milliseconds poke_pause_ GUARDED_BY(poke_mutex_){1};
  bool poke_stopping_ GUARDED_BY(poke_mutex_) = false;
  std::optional<pthread_t> poker_ GUARDED_BY(poke_mutex_);
};

// One blocking system call that another thread can end. The thread that blocks brackets it:
//
//   if (!point.enter()) return EINTR;
//   int error = flock(fd, LOCK_EX) == 0 ? 0 : errno;
//   point.leave();
//
// A signal that arrives just before the system call is lost, so interrupt() has it repeated until leave(). Once
// interrupted it stays so until reset(). enter(), leave() and reset() by one thread of the pool at a time; interrupt()
// by any.
class InterruptiblePoint {
 public:
  explicit InterruptiblePoint(BlockingPool& pool) : pool_(pool) {}
  InterruptiblePoint(const InterruptiblePoint&) = delete;
  InterruptiblePoint& operator=(const InterruptiblePoint&) = delete;

  // False when interrupted already: do not make the call. REQUIRES: a thread of the pool.
  [[nodiscard]] bool enter();
  // After the call; no signal is sent on account of this point once it has returned.
  void leave();
  // For a further call. An interruption that was meant for the one before may still come, and end this one. REQUIRES:
  // no call is under way.
  void reset();
  // Ends the call, if one is under way, with EINTR; never waits for it.
  void interrupt();

 private:
  friend class BlockingPool;
  BlockingPool& pool_;
  // Guarded by pool_.poke_mutex_.
  pthread_t thread_{};
  bool inside_ = false;
  bool interrupted_ = false;
};

}  // namespace flockfs
