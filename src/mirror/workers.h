#pragma once

#include <pthread.h>

#include <atomic>
#include <chrono>
#include <deque>

#include "base/result.h"
#include "base/unique_fd.h"
#include "mirror/core.h"
#include "mirror/fuse_api.h"
#include "mirror/request_queue.h"

namespace flockfs {

// The threads that read requests from the kernel and run their handlers. None ever waits for a lock, so their number
// only bounds how many requests are at work at once. Used by one thread, but for fence().
class Workers {
 public:
  // `core` outlives this and has its session.
  explicit Workers(Core& core) : core_(core), session_(core.session), queue_(core.session) {}
  // REQUIRES: stop() has returned true, or start() was never called.
  ~Workers() = default;

  // Answers the kernel's INIT in the calling thread, within a time limit.
  Status answer_init();

  Status start(unsigned count);

  // Why the threads have ended by themselves, if not because the mirror is gone.
  [[nodiscard]] Status failure() const;

  // Becomes readable when all threads have ended by themselves, which is when the mirror is unmounted and nothing in it
  // is open any more, or its connection is gone.
  [[nodiscard]] int ended_fd() const { return ended_.get(); }

  // Waits until whatever had been read from the kernel before the call has been dealt with, and with it the RELEASE of
  // each close(2) that had returned before the request of the caller came: the kernel hands requests out in their
  // order, but a thread may be slow with its own. False if that takes longer than the limit. Thread-safe; not for the
  // workers themselves.
  [[nodiscard]] bool fence(std::chrono::milliseconds limit) const;

  // Ends the threads after what they are doing. False if one does not come back in time.
  bool stop(std::chrono::milliseconds limit);

 private:
  struct Worker {
    Worker(Workers& all_in, RequestQueue::Taker& taker_in) : all(all_in), taker(taker_in) {}
    Workers& all;
    RequestQueue::Taker& taker;
    pthread_t thread{};
  };

  static void* main(void* worker);
  void run(Worker& self);
  void process(const fuse_buf& request);

  Core& core_;
  fuse_session* const session_;
  RequestQueue queue_;
  std::deque<Worker> workers_;  // constant once the first thread runs
  std::size_t threads_ = 0;     // of workers_, the first ones: those that were started and have not been joined
  std::atomic<unsigned> running_{0};
  std::atomic<int> failed_{0};  // errno of a thread that ended before its time
  UniqueFd ended_;              // eventfd
};

}  // namespace flockfs
