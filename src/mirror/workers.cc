#include "mirror/workers.h"

#include <linux/fuse.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <time.h>

#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <optional>
#include <thread>

#include "base/blocking_pool.h"
#include "base/log.h"
#include "base/sanitized.h"
#include "mirror/statx.h"
#include "tree/credentials.h"

#ifdef FLOCKFS_ADDRESS_SANITIZER
#include <sanitizer/lsan_interface.h>
#endif

namespace flockfs {
namespace {

constexpr int kInitLimitMs = 10'000;

constexpr auto kFenceLook = std::chrono::microseconds(50);

// One request's memory, for as long as its thread lives.
class RequestBuffer {
 public:
  RequestBuffer() = default;
  RequestBuffer(const RequestBuffer&) = delete;
  RequestBuffer& operator=(const RequestBuffer&) = delete;
  ~RequestBuffer() { std::free(buffer_.mem); }
  fuse_buf* get() { return &buffer_; }

 private:
  fuse_buf buffer_{};
};

}  // namespace

Status Workers::answer_init() {
  pollfd ready{fuse_session_fd(session_), POLLIN, 0};
  const int polled = ::poll(&ready, 1, kInitLimitMs);
  if (polled < 0) return errno_error("cannot wait for the kernel's INIT request");
  if (polled == 0) return Error{ETIMEDOUT, "the kernel sent no INIT request"};
  RequestBuffer buffer;
  const int got = fuse_session_receive_buf(session_, buffer.get());
  if (got <= 0) return Error{got < 0 ? -got : ENODEV, "cannot read the kernel's INIT request"};
  process(*buffer.get());
  if (fuse_session_exited(session_) != 0) return Error{EPROTO, "the kernel and libfuse do not agree on a protocol"};
  return {};
}

Status Workers::start(unsigned count) {
  ended_ = UniqueFd(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!ended_) return errno_error("cannot make an eventfd");
  running_ = count;
  queue_.set_takers(count);
  for (RequestQueue::Taker& taker : queue_.takers()) workers_.emplace_back(*this, taker);
  for (unsigned i = 0; i < count; ++i) {
    const int error = ::pthread_create(&workers_[i].thread, nullptr, main, &workers_[i]);
    if (error == 0) {
      ++threads_;
      continue;
    }
    running_ -= count - i;
    if (i == 0) return Error{error, "cannot start a thread"};
    queue_.all_take();
    log_write(LogLevel::kWarning, LogLine("threads").number("wanted", count).number("started", i));
    break;
  }
  return {};
}

void* Workers::main(void* worker) {
  Worker& self = *static_cast<Worker*>(worker);
  self.all.run(self);
  return nullptr;
}

void Workers::run(Worker& self) {
  ::prctl(PR_SET_NAME, "flockfs-worker");
  if (auto own = own_umask(); !own) {
    log_error("thread", "", own.error());
    failed_ = own.error().code;
  } else {
    RequestBuffer buffer;
    queue_.begin(self.taker);
    while (fuse_session_exited(session_) == 0) {
      const int got = queue_.take(self.taker, buffer.get());
      if (got == -EINTR || got == -EAGAIN) continue;
      if (got <= 0) {
        if (got < 0 && got != -ENODEV && got != -ECONNABORTED) {
          log_error("read", "/dev/fuse", Error{-got, {}});
          failed_ = -got;
        }
        break;
      }
      process(*buffer.get());
      queue_.done(self.taker);
    }
  }
  queue_.end(self.taker);
  if (running_.fetch_sub(1) == 1) ::eventfd_write(ended_.get(), 1);
}

void Workers::process(const fuse_buf& request) {
  fuse_in_header header{};
  if (request.size >= sizeof header) {
    std::memcpy(&header, request.mem, sizeof header);
    core_.counters.requests.count(header.opcode);
  }
#ifdef FLOCKFS_ADDRESS_SANITIZER
  // libfuse keeps an INTERRUPT of what has been answered already until another request comes, which none may do.
  std::optional<__lsan::ScopedDisabler> not_a_leak;
  if (header.opcode == FUSE_INTERRUPT) not_a_leak.emplace();
#endif
  if (!answer_statx(core_, request)) fuse_session_process_buf(session_, &request);
}

bool Workers::fence(std::chrono::milliseconds limit) const {
  const auto deadline = std::chrono::steady_clock::now() + limit;
  std::deque<std::uint64_t> before;
  for (const RequestQueue::Taker& taker : queue_.takers()) before.push_back(taker.done());
  for (std::size_t i = 0; i < before.size(); ++i) {
    const RequestQueue::Taker& taker = queue_.takers()[i];
    while (taker.done() == before[i] && !taker.idle()) {
      if (std::chrono::steady_clock::now() > deadline) return false;
      std::this_thread::sleep_for(kFenceLook);
    }
  }
  return true;
}

Status Workers::failure() const {
  const int error = failed_;
  if (error == 0) return {};
  return Error{error, "the mirror's threads have ended"};
}

bool Workers::stop(std::chrono::milliseconds limit) {
  fuse_session_exit(session_);
  queue_.all_take();
  const auto deadline = std::chrono::steady_clock::now() + limit;
  while (threads_ > 0) {
    const pthread_t thread = workers_[threads_ - 1].thread;
    // A signal just before the thread blocks in read(2) is lost, so it is repeated until the thread has ended.
    ::pthread_kill(thread, BlockingPool::kWakeSignal);
    timespec soon{};
    ::clock_gettime(CLOCK_REALTIME, &soon);
    soon.tv_nsec += 1'000'000;
    if (soon.tv_nsec >= 1'000'000'000) {
      soon.tv_nsec -= 1'000'000'000;
      ++soon.tv_sec;
    }
    if (::pthread_timedjoin_np(thread, nullptr, &soon) == 0) {
      --threads_;
    } else if (std::chrono::steady_clock::now() > deadline) {
      return false;
    }
  }
  return true;
}

}  // namespace flockfs
