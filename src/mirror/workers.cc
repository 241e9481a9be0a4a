#include "mirror/workers.h"

#include <fcntl.h>
#include <linux/fuse.h>
#include <poll.h>
#include <sched.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <optional>
#include <string_view>
#include <thread>
#include <utility>

#include "base/blocking_pool.h"
#include "base/clock.h"
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

// Requests keep coming when there is no more than this between two of them.
constexpr auto kSoon = std::chrono::microseconds(100);
// Then a thread looks for the next one for so long before it sleeps: with several of a client's requests on their way
// at once, its sleep and its wake-up cost more than the request (docs/PERFORMANCE.md).
constexpr auto kSpin = std::chrono::microseconds(40);
// It gives the processor to whoever wants it between two looks. If that lasts so long, there is none to spare.
constexpr auto kDisplaced = std::chrono::microseconds(20);

bool has_several_processors() {
  cpu_set_t mine;
  return ::sched_getaffinity(0, sizeof mine, &mine) != 0 || CPU_COUNT(&mine) > 1;
}

// Whether a thread of ours sleeps where a signal would wake it.
bool asleep(pid_t tid) {
  char path[48];
  std::snprintf(path, sizeof path, "/proc/self/task/%d/stat", tid);
  const UniqueFd fd(::open(path, O_RDONLY | O_CLOEXEC));
  std::array<char, 128> bytes{};
  const ssize_t got = fd ? ::read(fd.get(), bytes.data(), bytes.size()) : -1;
  if (got <= 0) return false;
  const std::string_view text(bytes.data(), static_cast<std::size_t>(got));
  const std::size_t state = text.rfind(") ");  // the name before it has no blanks and no parentheses
  return state != std::string_view::npos && text.substr(state + 2).starts_with('S');
}

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
  may_spin_ = has_several_processors();
  for (unsigned i = 0; i < count; ++i) workers_.emplace_back(*this);
  for (unsigned i = 0; i < count; ++i) {
    const int error = ::pthread_create(&workers_[i].thread, nullptr, main, &workers_[i]);
    if (error == 0) {
      ++threads_;
      continue;
    }
    running_ -= count - i;
    if (i == 0) return Error{error, "cannot start a thread"};
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
    self.tid = ::gettid();
    while (fuse_session_exited(session_) == 0) {
      if (keep_coming_ && may_spin_) spin(self);
      self.doing = Doing::kReading;
      const int got = fuse_session_receive_buf(session_, buffer.get());
      self.doing = Doing::kWorking;
      if (got == -EINTR || got == -EAGAIN) continue;
      if (got <= 0) {
        if (got < 0 && got != -ENODEV && got != -ECONNABORTED) {
          log_error("read", "/dev/fuse", Error{-got, {}});
          failed_ = -got;
        }
        break;
      }
      note_arrival();
      process(*buffer.get());
      ++self.done;
    }
    self.tid = 0;
  }
  if (running_.fetch_sub(1) == 1) ::eventfd_write(ended_.get(), 1);
}

void Workers::note_arrival() {
  const std::int64_t at = now().time_since_epoch().count();
  keep_coming_ = at - last_arrival_.exchange(at) < Duration(kSoon).count();
}

// Returns when there is, or was, a request to read, or none came.
void Workers::spin(Worker& self) {
  self.doing = Doing::kSpinning;
  pollfd ready{fuse_session_fd(session_), POLLIN, 0};
  TimePoint at = now();
  const TimePoint limit = at + kSpin;
  while (at < limit && ::poll(&ready, 1, 0) == 0) {
    ::sched_yield();
    const TimePoint before = std::exchange(at, now());
    if (at - before > kDisplaced) return;
  }
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

// Sleeping in read(2), or not there yet: what it reads next had not been handed out yet.
bool Workers::idle(const Worker& worker) {
  const pid_t tid = worker.tid;
  if (tid == 0 || worker.doing == Doing::kSpinning) return true;
  const std::uint64_t done = worker.done;
  const auto reads = [&worker] { return worker.doing == Doing::kReading; };
  return reads() && asleep(tid) && reads() && worker.done == done;
}

bool Workers::fence(std::chrono::milliseconds limit) const {
  const auto deadline = std::chrono::steady_clock::now() + limit;
  std::deque<std::uint64_t> before;
  for (const Worker& worker : workers_) before.push_back(worker.done);
  for (std::size_t i = 0; i < before.size(); ++i) {
    while (workers_[i].done == before[i] && !idle(workers_[i])) {
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
