#pragma once

#include <pthread.h>

#include <atomic>
#include <chrono>
#include <vector>

#include "base/result.h"
#include "base/unique_fd.h"
#include "mirror/fuse_api.h"

namespace flockfs {

// The threads that read requests from the kernel and run their handlers. None ever waits for a lock, so their number
// only bounds how many requests are at work at once. Used by one thread.
class Workers {
 public:
  explicit Workers(fuse_session* session) : session_(session) {}
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

  // Ends the threads after what they are doing. False if one does not come back in time.
  bool stop(std::chrono::milliseconds limit);

 private:
  static void* main(void* self);
  void run();

  fuse_session* const session_;
  std::vector<pthread_t> threads_;
  std::atomic<unsigned> running_{0};
  std::atomic<int> failed_{0};  // errno of a thread that ended before its time
  UniqueFd ended_;              // eventfd
};

}  // namespace flockfs
