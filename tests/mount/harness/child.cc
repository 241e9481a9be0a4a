#include "harness/child.h"

#include <poll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <exception>
#include <system_error>
#include <utility>
#include <vector>

#include "harness/connection.h"

namespace flockfs::test {
namespace {

constexpr int kFailedExit = 77;
constexpr std::size_t kLongestWord = 64 * 1024;

// The test's ends of all conversations: a new child closes those of its elders, or it would keep them from seeing the
// test's end.
std::vector<int>& open_sockets() {
  static std::vector<int> sockets;
  return sockets;
}

// One message; empty optional on the end of the conversation or at the deadline.
std::optional<std::string> receive(int fd, const Deadline& deadline) {
  pollfd event{fd, POLLIN, 0};
  for (;;) {
    const int ready = ::poll(&event, 1, deadline.poll_ms());
    if (ready < 0 && errno == EINTR) continue;
    if (ready <= 0) return std::nullopt;
    std::string word(kLongestWord, '\0');
    const ssize_t size = ::recv(fd, word.data(), word.size(), MSG_DONTWAIT);
    if (size <= 0) return std::nullopt;
    word.resize(static_cast<std::size_t>(size));
    return word;
  }
}

void transmit(int fd, std::string_view word) {
  if (::send(fd, word.data(), word.size(), MSG_NOSIGNAL) < 0 && errno != EPIPE && errno != ECONNRESET) {
    std::perror("send to the other process of a test");
  }
}

int failures_so_far() {
  return ::testing::UnitTest::GetInstance()->current_test_info() == nullptr
             ? 0
             : ::testing::UnitTest::GetInstance()->current_test_info()->result()->total_part_count();
}

[[noreturn]] void run_child(const Child::Body& body, pid_t parent, int socket) {
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (::getppid() != parent) ::_exit(kFailedExit);
  for (const int elder : open_sockets()) ::close(elder);
  open_sockets().clear();  // the numbers may be those of other files when this child makes one of its own
  const int before = failures_so_far();
  int code = 0;
  try {
    Peer peer(socket);
    body(peer);
    if (failures_so_far() != before) code = kFailedExit;
  } catch (const std::exception& problem) {
    std::fprintf(stderr, "child of the test: %s\n", problem.what());
    code = kFailedExit;
  }
  std::fflush(nullptr);
  ::_exit(code);
}

}  // namespace

void Peer::say(std::string_view word) { transmit(fd_, word); }

std::string Peer::hear() {
  auto word = receive(fd_, Deadline(kPatience * 4));
  if (!word) throw std::runtime_error("the test said nothing more");
  return std::move(*word);
}

void Peer::await(std::string_view word) {
  const std::string heard = hear();
  if (heard != word) throw std::runtime_error("waited for '" + std::string(word) + "', heard '" + heard + "'");
}

Child::Child(const Body& body) {
  std::array<int, 2> ends{};
  if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends.data()) != 0) {
    throw std::system_error(errno, std::generic_category(), "socketpair");
  }
  const pid_t parent = ::getpid();
  std::fflush(nullptr);
  pid_ = ::fork();
  if (pid_ < 0) throw std::system_error(errno, std::generic_category(), "fork");
  if (pid_ == 0) {
    ::close(ends[0]);
    run_child(body, parent, ends[1]);
  }
  ::close(ends[1]);
  socket_.reset(ends[0]);
  open_sockets().push_back(ends[0]);
}

Child& Child::operator=(Child&& other) noexcept {
  if (this != &other) {
    finish();
    pid_ = std::exchange(other.pid_, -1);
    socket_ = std::move(other.socket_);
    status_ = std::exchange(other.status_, std::nullopt);
  }
  return *this;
}

Child::~Child() { finish(); }

void Child::finish() {
  if (socket_.valid()) {
    std::erase(open_sockets(), socket_.get());
    if (!poll_status()) {
      signal(SIGKILL);
      // The first wait aborts the connections, after which nothing can hold the child back.
      if (!wait() && !wait()) std::fprintf(stderr, "child %d of the test does not die\n", static_cast<int>(pid_));
    }
    socket_.reset();
  }
}

void Child::say(std::string_view word) { transmit(socket_.get(), word); }

std::optional<std::string> Child::hear(Millis time) {
  const Deadline deadline(time);
  auto word = receive(socket_.get(), deadline);
  if (!word && deadline.passed()) abort_connections();
  return word;
}

::testing::AssertionResult Child::says(std::string_view word, Millis time) {
  const auto heard = hear(time);
  if (heard && *heard == word) return ::testing::AssertionSuccess();
  auto failure = ::testing::AssertionFailure() << "waited for child " << pid_ << " to say '" << word << "', but it ";
  if (heard) return failure << "said '" << *heard << "'";
  if (const auto status = poll_status()) return failure << "ended: " << describe_status(*status);
  return failure << "said nothing";
}

bool Child::silent(Millis time) {
  pollfd event{socket_.get(), POLLIN, 0};
  return ::poll(&event, 1, static_cast<int>(time.count())) == 0;
}

void Child::signal(int number) const {
  if (!status_) ::kill(pid_, number);
}

std::optional<int> Child::poll_status() {
  int status = 0;
  if (!status_ && ::waitpid(pid_, &status, WNOHANG) == pid_) status_ = status;
  return status_;
}

std::optional<int> Child::wait(Millis time) {
  if (eventually([this] { return poll_status().has_value(); }, time)) return status_;
  abort_connections();
  return std::nullopt;
}

::testing::AssertionResult Child::ends_well(Millis time) {
  const auto status = wait(time);
  if (!status) return ::testing::AssertionFailure() << "child " << pid_ << " did not end in time";
  if (*status == 0) return ::testing::AssertionSuccess();
  return ::testing::AssertionFailure() << "child " << pid_
                                       << " failed (its messages are above): " << describe_status(*status);
}

::testing::AssertionResult Child::killed_by(int signal, Millis time) {
  const auto status = wait(time);
  if (!status) return ::testing::AssertionFailure() << "child " << pid_ << " did not end in time";
  if (WIFSIGNALED(*status) && WTERMSIG(*status) == signal) return ::testing::AssertionSuccess();
  return ::testing::AssertionFailure() << "child " << pid_ << ": " << describe_status(*status);
}

std::string describe_status(int status) {
  if (WIFSIGNALED(status)) return "signal " + std::to_string(WTERMSIG(status));
  return "exit " + std::to_string(WEXITSTATUS(status));
}

::testing::AssertionResult in_child(const std::function<void()>& body, Millis time) {
  Child child([&](Peer&) { body(); });
  return child.ends_well(time);
}

}  // namespace flockfs::test
