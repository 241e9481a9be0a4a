#include "base/side_by_side.h"

#include <atomic>
#include <exception>
#include <memory>

#include "base/blocking_pool.h"
#include "base/mutex.h"

namespace flockfs {
namespace {

class Pieces {
 public:
  Pieces(std::size_t count, const std::function<void(std::size_t)>& work) : count_(count), work_(work) {}

  // One piece after the other until none is left or one has failed.
  void take() EXCLUDES(mutex_) {
    try {
      for (std::size_t i = next_++; i < count_; i = next_++) work_(i);
    } catch (...) {
      next_ = count_;
      MutexLock lock(mutex_);
      failure_ = std::current_exception();
    }
  }

  void help() EXCLUDES(mutex_) {
    {
      MutexLock lock(mutex_);
      if (closed_) return;
      helped_ = true;
    }
    take();
    MutexLock lock(mutex_);
    helped_ = false;
    left_.notify_all();
  }

  // From here on nobody helps any more. Throws what a piece has thrown, on whichever thread.
  void close() EXCLUDES(mutex_) {
    MutexLock lock(mutex_);
    closed_ = true;
    while (helped_) left_.wait(mutex_);
    if (failure_) std::rethrow_exception(failure_);
  }

 private:
  const std::size_t count_;
  const std::function<void(std::size_t)>& work_;  // there until close() returns
  std::atomic<std::size_t> next_{0};
  Mutex mutex_;
  CondVar left_;
  bool closed_ GUARDED_BY(mutex_) = false;
  bool helped_ GUARDED_BY(mutex_) = false;
  std::exception_ptr failure_ GUARDED_BY(mutex_);
};

}  // namespace

void side_by_side(BlockingPool& pool, std::size_t count, const std::function<void(std::size_t)>& work) {
  const auto pieces = std::make_shared<Pieces>(count, work);
  (void)pool.run([pieces] { pieces->help(); });  // without: alone
  pieces->take();
  pieces->close();
}

}  // namespace flockfs
