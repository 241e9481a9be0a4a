#pragma once

#include <chrono>
#include <condition_variable>
#include <mutex>

// Clang's thread safety analysis (clang.llvm.org/docs/ThreadSafetyAnalysis.html); nothing for other compilers.
#if defined(__clang__)
#define FLOCKFS_THREAD_ANNOTATION(x) __attribute__((x))
#else
#define FLOCKFS_THREAD_ANNOTATION(x)
#endif

#define CAPABILITY(x) FLOCKFS_THREAD_ANNOTATION(capability(x))
#define SCOPED_CAPABILITY FLOCKFS_THREAD_ANNOTATION(scoped_lockable)
#define GUARDED_BY(x) FLOCKFS_THREAD_ANNOTATION(guarded_by(x))
#define REQUIRES(...) FLOCKFS_THREAD_ANNOTATION(requires_capability(__VA_ARGS__))
#define EXCLUDES(...) FLOCKFS_THREAD_ANNOTATION(locks_excluded(__VA_ARGS__))
#define ACQUIRE(...) FLOCKFS_THREAD_ANNOTATION(acquire_capability(__VA_ARGS__))
#define RELEASE(...) FLOCKFS_THREAD_ANNOTATION(release_capability(__VA_ARGS__))
#define ACQUIRED_BEFORE(...) FLOCKFS_THREAD_ANNOTATION(acquired_before(__VA_ARGS__))
#define NO_THREAD_SAFETY_ANALYSIS FLOCKFS_THREAD_ANNOTATION(no_thread_safety_analysis)

namespace flockfs {

class CondVar;

// A std::mutex that clang's analysis understands. The order between the mutexes of flockfs is in docs/LOCKS.md.
class CAPABILITY("mutex") Mutex {
 public:
  void lock() ACQUIRE() { mutex_.lock(); }
  void unlock() RELEASE() { mutex_.unlock(); }

 private:
  friend class CondVar;
  std::mutex mutex_;
};

// Holds a Mutex for a scope; may be unlocked and locked again in between.
class SCOPED_CAPABILITY MutexLock {
 public:
  explicit MutexLock(Mutex& mutex) ACQUIRE(mutex) : mutex_(mutex) { mutex_.lock(); }
  ~MutexLock() RELEASE() {
    if (locked_) mutex_.unlock();
  }
  MutexLock(const MutexLock&) = delete;
  MutexLock& operator=(const MutexLock&) = delete;

  void unlock() RELEASE() {
    locked_ = false;
    mutex_.unlock();
  }
  void lock() ACQUIRE() {
    mutex_.lock();
    locked_ = true;
  }

 private:
  Mutex& mutex_;
  bool locked_ = true;
};

// A condition variable for Mutex. Spurious wake-ups happen: call in a loop over the condition.
class CondVar {
 public:
  void wait(Mutex& mutex) REQUIRES(mutex) {
    std::unique_lock<std::mutex> lock(mutex.mutex_, std::adopt_lock);
    condition_.wait(lock);
    (void)lock.release();
  }
  // Returns at `deadline` at the latest.
  void wait_until(Mutex& mutex, std::chrono::steady_clock::time_point deadline) REQUIRES(mutex) {
    std::unique_lock<std::mutex> lock(mutex.mutex_, std::adopt_lock);
    condition_.wait_until(lock, deadline);
    (void)lock.release();
  }
  void notify_one() { condition_.notify_one(); }
  void notify_all() { condition_.notify_all(); }

 private:
  std::condition_variable condition_;
};

}  // namespace flockfs
