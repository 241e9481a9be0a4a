#include "model/actor.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <map>
#include <stdexcept>
#include <thread>
#include <utility>

#include "harness/connection.h"

namespace flockfs::test::model {
namespace {

constexpr std::size_t kMapped = 4096;

struct Order {
  Command::Kind kind{};
  bool receives = false;  // the other half of a handing over
  int number = 0;
  int made = 0;
  int flags = 0;
  std::array<char, 32> name{};
};

// The actor's own side. Everything that it has open is in its tables, so a forked child goes on with copies of both.
class Stage {
 public:
  Stage(std::string directory, int post_in, int post_out, UniqueFd socket)
      : directory_(std::move(directory)), post_in_(post_in), post_out_(post_out), socket_(std::move(socket)) {}

  void run() {
    for (;;) {
      Order order;
      const ssize_t size = ::recv(socket_.get(), &order, sizeof order, 0);
      if (size < 0 && errno == EINTR) continue;
      if (size != sizeof order) ::_exit(0);
      Actor::Answer answer;
      answer.error = act(order, answer) ? 0 : errno;
      if (::send(socket_.get(), &answer, sizeof answer, MSG_NOSIGNAL) != sizeof answer) ::_exit(1);
    }
  }

 private:
  using Kind = Command::Kind;

  bool act(const Order& order, Actor::Answer& answer) {
    const std::string path = directory_ + "/" + order.name.data();
    switch (order.kind) {
      case Kind::kOpen:
        return keep(order.made, ::open(path.c_str(), order.flags | O_CLOEXEC, 0644));
      case Kind::kClose:
        return close_one(order.number);
      case Kind::kDup:
        return keep(order.made, ::fcntl(descriptors_.at(order.number), F_DUPFD_CLOEXEC, 0));
      case Kind::kFork:
        return fork(answer);
      case Kind::kHandOver:
        return order.receives ? keep(order.made, receive_descriptor(post_in_).release())
                              : send_descriptor(post_out_, descriptors_.at(order.number));
      case Kind::kMap:
        return map(order);
      case Kind::kUnmap:
        return unmap(order.number);
      case Kind::kFlock:
        return ::flock(descriptors_.at(order.number), order.flags) == 0;
      case Kind::kTruncate:
        return ::truncate(path.c_str(), 10) == 0;
      case Kind::kFtruncate:
        return ::ftruncate(descriptors_.at(order.number), 20) == 0;
      case Kind::kUnlink:
        return ::unlink(path.c_str()) == 0;
      case Kind::kCloseAll:
        return close_all();
      default:
        errno = ENOSYS;
        return false;
    }
  }

  bool keep(int number, int fd) {
    if (fd >= 0) descriptors_[number] = fd;
    return fd >= 0;
  }

  bool close_one(int number) {
    const int fd = descriptors_.at(number);
    descriptors_.erase(number);
    return ::close(fd) == 0;
  }

  bool map(const Order& order) {
    void* memory = ::mmap(nullptr, kMapped, PROT_READ, MAP_SHARED, descriptors_.at(order.number), 0);
    if (memory != MAP_FAILED) mappings_[order.made] = memory;
    return memory != MAP_FAILED;
  }

  bool unmap(int number) {
    void* const memory = mappings_.at(number);
    mappings_.erase(number);
    return ::munmap(memory, kMapped) == 0;
  }

  bool close_all() {
    while (!descriptors_.empty()) (void)close_one(descriptors_.begin()->first);
    while (!mappings_.empty()) (void)unmap(mappings_.begin()->first);
    return true;
  }

  // A child of the test, not of this process, so that the test sees its end.
  bool fork(Actor::Answer& answer) {
    UniqueFd socket = receive_descriptor(socket_.get());  // follows the order
    if (!socket) return false;
    const long made = ::syscall(SYS_clone, CLONE_PARENT | SIGCHLD, 0, 0, 0, 0);
    if (made == 0) {
      ::prctl(PR_SET_PDEATHSIG, SIGKILL);
      socket_ = std::move(socket);
      run();
    }
    answer.pid = static_cast<pid_t>(made);
    return made > 0;
  }

  const std::string directory_;
  const int post_in_;
  const int post_out_;
  UniqueFd socket_;
  std::map<int, int> descriptors_;
  std::map<int, void*> mappings_;
};

std::pair<UniqueFd, UniqueFd> conversation() {
  std::array<int, 2> ends{};
  if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends.data()) != 0) throw std::runtime_error("socketpair");
  return {UniqueFd(ends[0]), UniqueFd(ends[1])};
}

// Takes no signals: they are for the one that waits.
void start_idle_thread() {
  sigset_t all;
  sigset_t before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  std::thread([] {
    for (;;) ::pause();
  }).detach();
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

void transmit(int socket, const Order& order) {
  if (::send(socket, &order, sizeof order, MSG_NOSIGNAL) != sizeof order) throw std::runtime_error("an actor has gone");
}

}  // namespace

Actor::Actor(std::string directory, const SocketPair& post, const std::vector<int>& elders, Threads threads)
    : threads_(threads) {
  std::pair<UniqueFd, UniqueFd> ends = conversation();
  socket_ = std::move(ends.first);
  child_.emplace([&](Peer&) {
    socket_.reset();
    for (const int elder : elders) ::close(elder);
    if (threads == Threads::kIdleOneToo) start_idle_thread();
    struct sigaction caught {};
    caught.sa_handler = [](int) {};
    ::sigaction(SIGUSR1, &caught, nullptr);
    Stage(std::move(directory), post.first(), post.second(), std::move(ends.second)).run();
  });
  pid_ = child_->pid();
}

Actor::Actor(pid_t pid, UniqueFd socket) : pid_(pid), socket_(std::move(socket)) {}

void Actor::tell(const Command& command, int child_end) const {
  Order order;
  order.kind = command.kind;
  order.number = command.number;
  order.made = command.made;
  order.flags = command.flags;
  if (command.name.size() >= order.name.size()) throw std::runtime_error("a long name");
  std::memcpy(order.name.data(), command.name.data(), command.name.size());
  transmit(socket_.get(), order);
  if (child_end >= 0 && !send_descriptor(socket_.get(), child_end)) throw std::runtime_error("send_descriptor");
}

void Actor::tell_to_receive(int made) const {
  Order order;
  order.kind = Command::Kind::kHandOver;
  order.receives = true;
  order.made = made;
  transmit(socket_.get(), order);
}

std::optional<Actor::Answer> Actor::answer(Millis time) const {
  const Deadline deadline(time);
  pollfd event{socket_.get(), POLLIN, 0};
  if (::poll(&event, 1, deadline.poll_ms()) != 1) return std::nullopt;
  Answer answer;
  if (::recv(socket_.get(), &answer, sizeof answer, MSG_DONTWAIT) != sizeof answer) return std::nullopt;
  return answer;
}

bool Actor::has_spoken() const {
  pollfd event{socket_.get(), POLLIN, 0};
  return ::poll(&event, 1, 0) == 1;
}

void Actor::interrupt() const { ::kill(pid_, SIGUSR1); }

bool Actor::kill() {
  if (child_) {
    child_->signal(SIGKILL);
    return child_->wait().has_value();
  }
  if (pid_ < 0) return true;
  ::kill(pid_, SIGKILL);
  const bool gone = eventually([this] { return ::waitpid(pid_, nullptr, WNOHANG) == pid_; });
  if (gone) pid_ = -1;
  return gone;
}

Actor::~Actor() {
  if (kill()) return;
  abort_connections();  // after which nothing can hold it back
  (void)kill();
}

}  // namespace flockfs::test::model
