#include "harness/crowd.h"

#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <system_error>
#include <vector>

#include "harness/files.h"

namespace flockfs::test {
namespace {

UniqueFd make_pipe(UniqueFd& write_end) {
  std::array<int, 2> ends{};
  if (::pipe2(ends.data(), O_CLOEXEC) != 0) throw std::system_error(errno, std::generic_category(), "pipe2");
  ::fcntl(ends[0], F_SETFL, O_NONBLOCK);
  write_end.reset(ends[1]);
  return UniqueFd(ends[0]);
}

}  // namespace

Crowd::Crowd(int size, const std::function<int(int)>& work)
    : size_(size), read_end_(make_pipe(write_end_)), leader_([&](Peer& test) { lead(test, size, work); }) {}

// Starts the crowd, hands on signals, and says "gone" when all have ended.
void Crowd::lead(Peer& test, int size, const std::function<int(int)>& work) {
  const pid_t leader = ::getpid();
  std::vector<pid_t> members;
  for (int i = 0; i < size; ++i) {
    const pid_t pid = ::fork();
    ASSERT_GE(pid, 0);
    if (pid == 0) {
      ::prctl(PR_SET_PDEATHSIG, SIGKILL);
      if (::getppid() != leader) ::_exit(1);
      const int error = work(i);
      ::_exit(::write(write_end_.get(), &error, sizeof error) == sizeof error ? 0 : 1);
    }
    members.push_back(pid);
  }
  const std::string order = test.hear();
  for (const pid_t pid : members) ::kill(pid, std::stoi(order));
  while (::wait(nullptr) > 0 || errno == EINTR) {
  }
  test.say("gone");
}

int Crowd::finished() {
  int error = 0;
  while (::read(read_end_.get(), &error, sizeof error) == sizeof error) {
    ++finished_;
    if (error != 0) {
      ++failed_;
      last_error_ = error;
    }
  }
  return finished_;
}

::testing::AssertionResult Crowd::all_succeed(Millis time) {
  const bool all = eventually([this] { return finished() == size_; }, time);
  if (all && failed_ == 0) return ::testing::AssertionSuccess();
  return ::testing::AssertionFailure() << finished_ << " of " << size_ << " ended, " << failed_
                                       << " of them with an error, the last: " << errno_name(last_error_);
}

void Crowd::signal(int number) { leader_.say(std::to_string(number)); }

bool Crowd::all_gone(Millis time) { return static_cast<bool>(leader_.says("gone", time)); }

}  // namespace flockfs::test
