#include "harness/guardian.h"

#include <poll.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <utility>

#include "harness/connection.h"

namespace flockfs::test {
namespace {

constexpr int kSteppedIn = 1;

int pidfd_of(pid_t pid) { return static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)); }

[[noreturn]] void watch(int leash, int test, unsigned connection, const std::string& mountpoint, pid_t daemon,
                        std::chrono::steady_clock::time_point end) {
  ::setsid();  // an interrupt from the terminal is for the test
  std::array<pollfd, 2> events{pollfd{leash, POLLIN, 0}, pollfd{test, POLLIN, 0}};
  int left = 0;
  do {
    left = static_cast<int>(std::chrono::ceil<Millis>(end - std::chrono::steady_clock::now()).count());
  } while (::poll(events.data(), events.size(), std::max(left, 0)) < 0 && errno == EINTR);
  char word = 0;
  if (::recv(leash, &word, 1, MSG_DONTWAIT) == 1) ::_exit(0);
  std::fprintf(stderr, "guardian: %s; ending the mirror at %s\n",
               events[1].revents != 0 ? "the test has died" : "the test takes too long", mountpoint.c_str());
  abort_connection(connection);
  ::umount2(mountpoint.c_str(), MNT_DETACH);
  ::kill(daemon, SIGKILL);
  ::_exit(kSteppedIn);
}

}  // namespace

Guardian::Guardian(unsigned connection, std::string mountpoint, pid_t daemon, Millis deadline) {
  const auto end = std::chrono::steady_clock::now() + deadline;
  std::array<int, 2> ends{};
  const int test = pidfd_of(::getpid());
  if (test < 0 || ::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends.data()) != 0) return;
  std::fflush(nullptr);
  pid_ = ::fork();
  if (pid_ == 0) {
    ::close(ends[0]);
    watch(ends[1], test, connection, mountpoint, daemon, end);
  }
  ::close(ends[1]);
  ::close(test);
  leash_.reset(ends[0]);
}

Guardian::~Guardian() { (void)dismiss(); }

bool Guardian::dismiss() {
  if (!leash_) return true;
  if (::send(leash_.get(), "q", 1, MSG_NOSIGNAL) != 1) std::fprintf(stderr, "the guardian is gone already\n");
  int status = 0;
  while (::waitpid(pid_, &status, 0) < 0 && errno == EINTR) {
  }
  leash_.reset();
  return status == 0;
}

}  // namespace flockfs::test
