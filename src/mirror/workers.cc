#include "mirror/workers.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <time.h>

#include <cerrno>
#include <csignal>
#include <cstdlib>

#include "base/blocking_pool.h"
#include "base/log.h"
#include "tree/credentials.h"

namespace flockfs {
namespace {

constexpr int kInitLimitMs = 10'000;

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
  fuse_session_process_buf(session_, buffer.get());
  if (fuse_session_exited(session_) != 0) return Error{EPROTO, "the kernel and libfuse do not agree on a protocol"};
  return {};
}

Status Workers::start(unsigned count) {
  ended_ = UniqueFd(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!ended_) return errno_error("cannot make an eventfd");
  running_ = count;
  for (unsigned i = 0; i < count; ++i) {
    pthread_t thread{};
    const int error = ::pthread_create(&thread, nullptr, main, this);
    if (error == 0) {
      threads_.push_back(thread);
      continue;
    }
    running_ -= count - i;
    if (i == 0) return Error{error, "cannot start a thread"};
    log_write(LogLevel::kWarning, LogLine("threads").number("wanted", count).number("started", i));
    break;
  }
  return {};
}

void* Workers::main(void* self) {
  static_cast<Workers*>(self)->run();
  return nullptr;
}

void Workers::run() {
  ::prctl(PR_SET_NAME, "flockfs-worker");
  if (auto own = own_umask(); !own) {
    log_error("thread", "", own.error());
    failed_ = own.error().code;
  } else {
    RequestBuffer buffer;
    while (fuse_session_exited(session_) == 0) {
      const int got = fuse_session_receive_buf(session_, buffer.get());
      if (got == -EINTR || got == -EAGAIN) continue;
      if (got <= 0) {
        if (got < 0 && got != -ENODEV && got != -ECONNABORTED) {
          log_error("read", "/dev/fuse", Error{-got, {}});
          failed_ = -got;
        }
        break;
      }
      fuse_session_process_buf(session_, buffer.get());
    }
  }
  if (running_.fetch_sub(1) == 1) ::eventfd_write(ended_.get(), 1);
}

Status Workers::failure() const {
  const int error = failed_;
  if (error == 0) return {};
  return Error{error, "the mirror's threads have ended"};
}

bool Workers::stop(std::chrono::milliseconds limit) {
  fuse_session_exit(session_);
  const auto deadline = std::chrono::steady_clock::now() + limit;
  while (!threads_.empty()) {
    // A signal just before the thread blocks in read(2) is lost, so it is repeated until the thread has ended.
    ::pthread_kill(threads_.back(), BlockingPool::kWakeSignal);
    timespec soon{};
    ::clock_gettime(CLOCK_REALTIME, &soon);
    soon.tv_nsec += 1'000'000;
    if (soon.tv_nsec >= 1'000'000'000) {
      soon.tv_nsec -= 1'000'000'000;
      ++soon.tv_sec;
    }
    if (::pthread_timedjoin_np(threads_.back(), nullptr, &soon) == 0) {
      threads_.pop_back();
    } else if (std::chrono::steady_clock::now() > deadline) {
      return false;
    }
  }
  return true;
}

}  // namespace flockfs
