#pragma once

#include <sys/types.h>

#include <atomic>
#include <cstdint>
#include <deque>

#include "base/clock.h"
#include "base/mutex.h"
#include "mirror/fuse_api.h"
#include "mirror/two_ways.h"

namespace flockfs {

// The kernel's queue of requests, and which of the workers take from it.
//
// Waking a thread costs more than most requests do, and a client that sends one straight after the other (RELEASE and
// OPEN) wakes two. So while requests keep coming, those who take them look for the next one before they sleep, and no
// more of the workers than that needs, two as a rule, take any; the others stand by. One of these looks every two
// milliseconds whether somebody still finds the queue empty, and sends another one if not: slow requests keep those
// behind them waiting for that long at most. It also finds out, about once a second, whether a request is answered
// sooner if whoever sees it first leaves it, for a moment, to another one who looks: that one may be on the client's
// processor, the first is not. When no more requests come, all sleep in read(2) and nothing looks at anything
// (docs/THREADS.md; the figures are in docs/PERFORMANCE.md).
class RequestQueue {
 public:
  // What one worker is at.
  class Taker {
   public:
    // It has not taken what it takes next: it sleeps in read(2), looks, stands by, or has not begun or has ended.
    // Any thread.
    [[nodiscard]] bool idle() const;
    // Requests that it has dealt with. Any thread.
    [[nodiscard]] std::uint64_t done() const { return done_; }

   private:
    friend class RequestQueue;
    enum class Doing { kWorking, kLooking, kReading, kStandingBy };

    std::atomic<pid_t> tid_{0};  // 0: it does not take yet, or no more
    std::atomic<Doing> doing_{Doing::kWorking};
    std::atomic<std::uint64_t> done_{0};
    std::atomic<bool> found_none_{false};  // since the last look at the takers
    std::uint64_t seen_ = 0;               // of done_, then; used under RequestQueue::mutex_
  };

  // `session` outlives this.
  explicit RequestQueue(fuse_session* session) : session_(session) {}
  RequestQueue(const RequestQueue&) = delete;
  RequestQueue& operator=(const RequestQueue&) = delete;

  // Before any other call.
  void set_takers(unsigned count);
  // Constant after set_takers().
  [[nodiscard]] std::deque<Taker>& takers() { return takers_; }
  [[nodiscard]] const std::deque<Taker>& takers() const { return takers_; }

  // The calling thread is this taker from here on.
  void begin(Taker& taker);
  // The next request, as fuse_session_receive_buf(): a size, 0 when the session is at its end, or a negative errno.
  int take(Taker& taker, fuse_buf* buffer);
  // What it had taken has been dealt with.
  void done(Taker& taker) { ++taker.done_; }
  // It takes no more; those who are left all take.
  void end(Taker& taker);
  // From here on nobody stands by. Any thread.
  void all_take();

 private:
  [[nodiscard]] bool too_many() const;
  void stand_by(Taker& taker) EXCLUDES(mutex_);
  void adapt() REQUIRES(mutex_);
  void compare() REQUIRES(mutex_);
  [[nodiscard]] bool somebody_finds_none() REQUIRES(mutex_);
  [[nodiscard]] bool look(Taker& taker);
  void note_none(Taker& taker);
  void note_arrival();
  [[nodiscard]] Duration since_arrival() const;

  fuse_session* const session_;
  std::deque<Taker> takers_;
  unsigned count_ = 0;     // of takers_
  bool may_look_ = false;  // constant after set_takers()
  std::atomic<bool> may_stand_by_{false};
  std::atomic<std::int64_t> last_arrival_{0};  // of a request: the clock's count
  std::atomic<bool> keep_coming_{false};       // requests
  std::atomic<bool> leave_{false};             // a request that has just come, to others who look
  std::atomic<unsigned> limit_{0};             // how many are to take; all: count_
  std::atomic<unsigned> taking_{0};            // how many do not stand by; changes under mutex_

  Mutex mutex_;
  CondVar changed_;
  Taker* watch_ GUARDED_BY(mutex_) = nullptr;     // of those who stand by: who looks at the takers
  unsigned calm_ GUARDED_BY(mutex_) = 0;          // looks
  TwoWays ways_ GUARDED_BY(mutex_);               // the second: with leave_
  std::uint64_t counted_ GUARDED_BY(mutex_) = 0;  // requests dealt with, then
  TimePoint counted_at_ GUARDED_BY(mutex_){};
};

}  // namespace flockfs
