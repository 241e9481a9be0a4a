#include "run/witness.h"

#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <csignal>
#include <fstream>
#include <string>
#include <thread>

namespace flockfs {
namespace {

// The kernel gives a signal to one process of a group after the other.
constexpr int kLooks = 10;
constexpr auto kBetweenLooks = std::chrono::milliseconds(1);
// For one that has it, but has not run yet.
constexpr int kMostLooks = 1000;

}  // namespace

Result<Witness> Witness::start() {
  auto counts = SharedMemory<Counts>::make();
  if (!counts) return counts.error();
  const pid_t runner = ::getpid();
  const pid_t pid = ::fork();
  if (pid < 0) return errno_error("cannot start a process");
  if (pid == 0) {
    (void)::prctl(PR_SET_PDEATHSIG, SIGKILL);
    (void)::prctl(PR_SET_NAME, "flockfs-witness");
    if (::getppid() != runner) ::_exit(0);
    (void)::close_range(0, ~0U, 0);  // nobody shall wait for us to close what they read
    sigset_t all;
    ::sigfillset(&all);
    ::sigprocmask(SIG_BLOCK, &all, nullptr);
    for (;;) {
      const int signal = ::sigwaitinfo(&all, nullptr);
      if (signal > 0) ++counts->get()->at(static_cast<std::size_t>(signal));
    }
  }
  return Witness(pid, *std::move(counts));
}

Witness::~Witness() {
  if (pid_ < 0) return;
  (void)::kill(pid_, SIGKILL);
  while (::waitpid(pid_, nullptr, 0) < 0 && errno == EINTR) {
  }
}

// Signals of a process: "ShdPnd:" of /proc/PID/status, in hexadecimal, the first one the lowest bit.
bool Witness::is_pending(int signal) const {
  std::ifstream status("/proc/" + std::to_string(pid_) + "/status");
  for (std::string key; status >> key;) {
    std::uint64_t bits = 0;
    if (key == "ShdPnd:" && status >> std::hex >> bits) return (bits >> (signal - 1) & 1U) != 0;
  }
  return false;
}

bool Witness::saw(int signal) {
  const auto index = static_cast<std::size_t>(signal);
  bool pending = false;
  for (int looks = 0; looks < (pending ? kMostLooks : kLooks); ++looks) {
    const std::uint32_t count = counts_->at(index);
    if (count != known_.at(index)) {
      known_.at(index) = count;
      return true;
    }
    pending = pending || is_pending(signal);
    std::this_thread::sleep_for(kBetweenLooks);
  }
  return pending;
}

}  // namespace flockfs
