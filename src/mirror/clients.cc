#include "mirror/clients.h"

#include <fcntl.h>
#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <charconv>
#include <cstdint>
#include <cstdio>
#include <optional>
#include <string_view>

#include "base/clock.h"
#include "base/unique_fd.h"

namespace flockfs {
namespace {

// Whether `tid` is a thread of the process `tgid`; signal 0 only asks. EPERM also means that it is.
bool is_thread_of(pid_t tgid, pid_t tid) { return ::syscall(SYS_tgkill, tgid, tid, 0) == 0 || errno == EPERM; }

std::string read_proc(const char* path) {
  const UniqueFd fd(::open(path, O_RDONLY | O_CLOEXEC));
  if (!fd) return {};
  std::array<char, 4096> bytes{};
  const ssize_t got = ::read(fd.get(), bytes.data(), bytes.size());
  return got > 0 ? std::string(bytes.data(), static_cast<std::size_t>(got)) : std::string{};
}

// Time that a thread has run (Documentation/scheduler/sched-stats.rst: the first number of schedstat).
std::optional<std::uint64_t> run_time_of(pid_t tid) {
  char path[48];
  std::snprintf(path, sizeof path, "/proc/%d/schedstat", tid);
  const std::string text = read_proc(path);
  std::uint64_t run_ns = 0;
  const auto [stop, error] = std::from_chars(text.data(), text.data() + text.size(), run_ns);
  if (error != std::errc{} || stop == text.data()) return std::nullopt;
  return run_ns;
}

// The number of the system call that a thread sleeps in; nothing while it runs, or if it may not be seen.
std::optional<long> call_of(pid_t tid, bool& runs) {
  char path[48];
  std::snprintf(path, sizeof path, "/proc/%d/syscall", tid);
  const std::string text = read_proc(path);
  runs = text.starts_with("running");
  long number = 0;
  const auto [stop, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc{} || stop == text.data()) return std::nullopt;
  return number;
}

#ifdef __x86_64__
// A 32-bit program's calls have numbers of their own (arch/x86/entry/syscalls/syscall_32.tbl); for others these are
// fstat(2) and preadv(2).
constexpr long k32BitOpen = 5;
constexpr long k32BitOpenat = 295;
#endif

// Since Linux 6.17, everywhere the same (scripts/syscall.tbl).
constexpr long kFileGetattr = 468;
constexpr long kFileSetattr = 469;

// A thread that has just sent its request may still be on its way to sleep.
constexpr int kMostLooks = 100;

// How long the first thread of a process is taken for that without asking: numbers are given out in turn, so that one
// is not given again so soon.
constexpr auto kStillTheSame = std::chrono::milliseconds(5);
// Of so many at once: clients take turns, and tgkill(2) takes as long as open(2).
constexpr std::size_t kKnownLeaders = 16;

struct Leader {
  pid_t tid = 0;
  TimePoint until;
};

// What taking an answer in costs at most, with a margin: measured 2 to 5 µs from the wake-up to the new size.
constexpr std::uint64_t kTakingInNs = 100'000;

}  // namespace

AnsweredCall::AnsweredCall(pid_t tid, long number) : tid_(tid), number_(number), run_ns_(run_time_of(tid)) {}

bool AnsweredCall::taken_in() const {
  if (tid_ <= 0) return true;
  char path[48];
  std::snprintf(path, sizeof path, "/proc/%d", tid_);
  if (::access(path, F_OK) != 0 && errno == ENOENT) return true;
  const auto run_ns = run_time_of(tid_);
  if (run_ns && run_ns_ && *run_ns > *run_ns_ + kTakingInNs) return true;
  bool runs = false;
  const auto number = call_of(tid_, runs);
  return number && *number != number_;
}

Calling calling(pid_t tid) {
  if (tid <= 0) return Calling::kUnknown;
  bool runs = false;
  std::optional<long> number = call_of(tid, runs);
  for (int looks = 1; runs && looks < kMostLooks; ++looks) {
    ::sched_yield();
    number = call_of(tid, runs);
  }
  if (!number) return Calling::kUnknown;
  switch (*number) {
#ifdef SYS_open  // not on newer architectures
    case SYS_open:
    case SYS_creat:
#endif
    case SYS_openat:
    case SYS_openat2:
    case SYS_execve:
    case SYS_execveat:
    case SYS_truncate:
      return Calling::kByPath;
#ifdef __x86_64__
    case k32BitOpen:
    case k32BitOpenat:
      return Calling::k32BitOpen;
#endif
    case SYS_ioctl:
    case kFileGetattr:
    case kFileSetattr:
      return Calling::kFileAttributes;
    default:
      return Calling::kUnknown;
  }
}

pid_t process_of(pid_t tid) {
  if (tid <= 0) return 0;
  thread_local std::array<Leader, kKnownLeaders> leaders;
  Leader& leader = leaders[static_cast<std::size_t>(tid) % kKnownLeaders];
  const TimePoint time = now();
  if (tid == leader.tid && time < leader.until) return tid;
  if (is_thread_of(tid, tid)) {
    leader = {tid, time + kStillTheSame};
    return tid;
  }
  thread_local pid_t last = 0;  // threads of one process tend to follow each other
  if (last != 0 && is_thread_of(last, tid)) return last;
  char path[48];
  std::snprintf(path, sizeof path, "/proc/%d/status", tid);
  const std::string status = read_proc(path);
  constexpr std::string_view kKey = "\nTgid:\t";
  const std::size_t at = status.find(kKey);
  if (at == std::string::npos) return 0;
  pid_t tgid = 0;
  std::from_chars(status.data() + at + kKey.size(), status.data() + status.size(), tgid);
  return last = tgid;
}

mode_t umask_of(pid_t tid) {
  constexpr mode_t kUsual = 022;
  if (tid <= 0) return kUsual;
  char path[48];
  std::snprintf(path, sizeof path, "/proc/%d/status", tid);
  const std::string status = read_proc(path);
  constexpr std::string_view kKey = "\nUmask:\t";
  const std::size_t at = status.find(kKey);
  mode_t umask = kUsual;
  if (at != std::string::npos) {
    std::from_chars(status.data() + at + kKey.size(), status.data() + status.size(), umask, 8);
  }
  return umask & 0777;
}

}  // namespace flockfs
