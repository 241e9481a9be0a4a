#include "base/blocking_pool.h"

#include <algorithm>
#include <memory>
#include <mutex>
#include <utility>

#include "base/sanitized.h"
#include "base/signals_blocked.h"

namespace flockfs {

namespace {

// A thread blocks in flock(2) and then tells an outcome: small frames. Sanitizers make them many times larger.
constexpr std::size_t kStackBytes = kSanitized ? 4U << 20 : 256U << 10;

constexpr std::chrono::milliseconds kFirstPoke{1};
constexpr std::chrono::milliseconds kLongestPoke{10};

// After a refusal (EAGAIN) none is asked for so long: a failing pthread_create maps and unmaps a stack each time, and
// with 1,000 waits on the polling list that would be most of a processor.
constexpr std::chrono::milliseconds kRefusalPause{100};

void ignore_signal(int /*signal*/) {}

// sigaction(2): without SA_RESTART an interrupted call fails with EINTR; with SIG_IGN it would not be interrupted at
// all.
void install_wake_handler() {
  static std::once_flag once;
  std::call_once(once, [] {
    struct sigaction action {};
    action.sa_handler = ignore_signal;
    sigemptyset(&action.sa_mask);
    sigaction(BlockingPool::kWakeSignal, &action, nullptr);
  });
}

int create_quiet_thread(pthread_t* thread, void* (*entry)(void*), void* argument) {
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  pthread_attr_setstacksize(&attributes, kStackBytes);
  const SignalsBlocked blocked;
  const int error = pthread_create(thread, &attributes, entry, argument);
  pthread_attr_destroy(&attributes);
  return error;
}

}  // namespace

struct BlockingPool::Start {
  BlockingPool* pool;
  std::function<void()> job;
};

BlockingPool::BlockingPool(unsigned max_threads, IdleTime keep_idle)
    : max_threads_(max_threads), keep_idle_(keep_idle) {
  install_wake_handler();
  // Made now, so that an interrupt never lacks the thread it needs; if it cannot be had, run() tries again and refuses.
  if (max_threads_ > 0) (void)start_poker();
}

BlockingPool::~BlockingPool() {
  {
    MutexLock lock(mutex_);
    stopping_ = true;
    work_.notify_all();
    while (threads_ > 0) ended_.wait(mutex_);
  }
  join_ended();
  std::optional<pthread_t> poker;
  {
    MutexLock lock(poke_mutex_);
    poke_stopping_ = true;
    poker = poker_;
    poke_work_.notify_all();
  }
  if (poker) pthread_join(*poker, nullptr);
}

bool BlockingPool::run(std::function<void()> job) {
  {
    MutexLock lock(mutex_);
    if (idle_ > jobs_.size()) {
      jobs_.push_back(std::move(job));
      work_.notify_one();
      return true;
    }
    if (threads_ >= max_threads_ || std::chrono::steady_clock::now() < refused_until_) return false;
    ++threads_;  // reserved
  }
  if (create_thread(std::move(job))) return true;
  MutexLock lock(mutex_);
  --threads_;
  refused_until_ = std::chrono::steady_clock::now() + kRefusalPause;
  ended_.notify_all();
  return false;
}

void BlockingPool::wait_idle() {
  MutexLock lock(mutex_);
  while (!jobs_.empty() || idle_ < threads_) ended_.wait(mutex_);
}

unsigned BlockingPool::threads() const {
  MutexLock lock(mutex_);
  return threads_;
}

bool BlockingPool::create_thread(std::function<void()> job) {
  if (!start_poker()) return false;
  auto start = std::make_unique<Start>(Start{this, std::move(job)});
  pthread_t thread{};
  if (create_quiet_thread(&thread, thread_main, start.get()) != 0) return false;
  (void)start.release();  // thread_main's now
  return true;
}

void* BlockingPool::thread_main(void* argument) {
  const std::unique_ptr<Start> start(static_cast<Start*>(argument));
  pthread_setname_np(pthread_self(), "flockfs-wait");
  sigset_t wake;
  sigemptyset(&wake);
  sigaddset(&wake, kWakeSignal);
  pthread_sigmask(SIG_UNBLOCK, &wake, nullptr);
  start->pool->work(std::move(start->job));
  return nullptr;
}

void BlockingPool::work(std::function<void()> job) {
  std::optional<std::function<void()>> next(std::move(job));
  while (next) {
    (*next)();
    next.reset();  // what the job holds goes before the thread idles
    next = next_job();
  }
  MutexLock lock(mutex_);
  while (to_join_) {  // another may end while the mutex is free for the joining
    const pthread_t previous = *std::exchange(to_join_, std::nullopt);
    lock.unlock();
    pthread_join(previous, nullptr);
    lock.lock();
  }
  to_join_ = pthread_self();
  --threads_;
  ended_.notify_all();
}

std::optional<std::function<void()>> BlockingPool::next_job() {
  const auto deadline = std::chrono::steady_clock::now() + keep_idle_;
  MutexLock lock(mutex_);
  ++idle_;
  ended_.notify_all();
  while (jobs_.empty() && !stopping_ && std::chrono::steady_clock::now() < deadline) work_.wait_until(mutex_, deadline);
  --idle_;
  if (jobs_.empty()) return std::nullopt;
  std::function<void()> job = std::move(jobs_.front());
  jobs_.pop_front();
  return job;
}

void BlockingPool::join_ended() {
  std::optional<pthread_t> previous;
  {
    MutexLock lock(mutex_);
    previous = std::exchange(to_join_, std::nullopt);
  }
  if (previous) pthread_join(*previous, nullptr);
}

bool BlockingPool::start_poker() {
  MutexLock lock(poke_mutex_);
  if (poker_) return true;
  pthread_t thread{};
  if (create_quiet_thread(&thread, poker_main, this) != 0) return false;
  poker_ = thread;
  return true;
}

void* BlockingPool::poker_main(void* pool) {
  pthread_setname_np(pthread_self(), "flockfs-poke");
  static_cast<BlockingPool*>(pool)->poke();
  return nullptr;
}

void BlockingPool::poke() {
  MutexLock lock(poke_mutex_);
  while (!poke_stopping_) {
    if (poked_.empty()) {
      poke_work_.wait(poke_mutex_);
      continue;
    }
    poke_work_.wait_until(poke_mutex_, std::chrono::steady_clock::now() + poke_pause_);
    poke_pause_ = std::min(poke_pause_ * 2, kLongestPoke);
    // Under the mutex: whoever is on the list cannot get past leave(), so its thread exists.
    for (const InterruptiblePoint* point : poked_) pthread_kill(point->thread_, kWakeSignal);
  }
}

bool InterruptiblePoint::enter() {
  MutexLock lock(pool_.poke_mutex_);
  if (interrupted_) return false;
  thread_ = pthread_self();
  inside_ = true;
  return true;
}

void InterruptiblePoint::leave() {
  MutexLock lock(pool_.poke_mutex_);
  inside_ = false;
  if (interrupted_) std::erase(pool_.poked_, this);
}

void InterruptiblePoint::reset() {
  MutexLock lock(pool_.poke_mutex_);
  interrupted_ = false;
}

void InterruptiblePoint::interrupt() {
  MutexLock lock(pool_.poke_mutex_);
  if (std::exchange(interrupted_, true) || !inside_) return;
  pthread_kill(thread_, BlockingPool::kWakeSignal);
  pool_.poke_pause_ = kFirstPoke;
  pool_.poked_.push_back(this);
  pool_.poke_work_.notify_one();
}

}  // namespace flockfs
