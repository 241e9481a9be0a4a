#include "status/server.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdint>
#include <ctime>
#include <exception>
#include <fstream>
#include <system_error>

#include "base/command_name.h"
#include "base/log.h"
#include "base/runtime_directory.h"
#include "base/signals_blocked.h"
#include "mirror/mirror.h"
#include "status/local_socket.h"
#include "status/report.h"
#include "status/socket_name.h"

namespace flockfs {
namespace {

constexpr std::size_t kMostClients = 8;
constexpr int kBacklog = 16;
constexpr auto kClientLimit = std::chrono::seconds(5);
constexpr auto kNoDescriptorPause = std::chrono::milliseconds(200);
// A name that is still unfinished after so long is of a daemon that was killed that very moment.
constexpr std::time_t kUnfinishedLimit = 60;

// Whether root of the system has no number here.
bool in_user_namespace() {
  std::ifstream map("/proc/self/uid_map");
  unsigned long inside = 0;
  unsigned long outside = 1;
  unsigned long length = 0;
  return !(map >> inside >> outside >> length) || inside != 0 || outside != 0 || length < UINT32_MAX;
}

// Of this user or root. A directory and the socket's mode keep out all others already: that is why, in a user
// namespace, nobody but root can be the one without a number.
bool may_ask(int socket, bool in_directory) {
  constexpr uid_t kNoNumber = 65534;
  static const bool root_has_no_number = in_user_namespace();
  const auto peer = peer_of(socket);
  if (!peer) return false;
  return peer->uid == 0 || peer->uid == ::geteuid() || (in_directory && root_has_no_number && peer->uid == kNoNumber);
}

std::unique_ptr<StatusServer> started_or_said(Result<std::unique_ptr<StatusServer>> server) {
  if (server) return *std::move(server);
  log_write(LogLevel::kInfo, LogLine("nostatus").quoted("reason", server.error().message()));
  return nullptr;
}

// Who only looked whether somebody listens here.
bool has_gone(int socket) {
  char byte = 0;
  return ::recv(socket, &byte, 1, MSG_PEEK | MSG_DONTWAIT) == 0;
}

void remove_sockets_of_the_dead(int directory) {
  for (const std::string& name : names_in(directory)) {
    const bool unfinished = name.starts_with("new.status.");
    if (!unfinished && !parse_socket_name(name)) continue;
    struct stat st {};
    if (::fstatat(directory, name.c_str(), &st, AT_SYMLINK_NOFOLLOW) != 0 || !S_ISSOCK(st.st_mode)) continue;
    if (unfinished && std::time(nullptr) - st.st_ctime < kUnfinishedLimit) continue;
    const auto connected = connect_in(directory, name, Patience::kNone);
    if (!connected && connected.error().code == ECONNREFUSED) (void)::unlinkat(directory, name.c_str(), 0);
  }
}

}  // namespace

Result<UniqueFd> StatusServer::open_directory() { return open_runtime_directory(Missing::kMake, "the status socket"); }

Result<std::unique_ptr<StatusServer>> StatusServer::start(UniqueFd directory, dev_t device, Answer answer) {
  remove_sockets_of_the_dead(directory.get());
  return listen(std::move(directory), device, std::move(answer));
}

// In the directory, or without one: in no file system.
Result<std::unique_ptr<StatusServer>> StatusServer::listen(UniqueFd directory, dev_t device, Answer answer) {
  const std::string name = to_string(SocketName{device, ::getpid()});
  UniqueFd end(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!end) return errno_error("cannot make the status socket");
  auto listener = directory ? listen_in(directory.get(), name, kBacklog) : listen_abstract(name, kBacklog);
  if (!listener) return Error{listener.error().code, "cannot make the status socket"};
  std::unique_ptr<StatusServer> server(
      new StatusServer(std::move(directory), name, *std::move(listener), std::move(end), std::move(answer)));
  if (auto started = server->start_thread(); !started) return started.error();
  return server;
}

std::unique_ptr<StatusServer> StatusServer::serve(Result<UniqueFd> directory, Mirror& mirror) {
  if (!directory) return started_or_said(directory.error());
  return started_or_said(start(*std::move(directory), mirror.device(), report_of(mirror)));
}

std::unique_ptr<StatusServer> StatusServer::serve_without_trace(Mirror& mirror) {
  return started_or_said(listen({}, mirror.device(), report_of(mirror)));
}

StatusServer::Answer StatusServer::report_of(Mirror& mirror) {
  return [&mirror] { return status_report(mirror.state(), ::getpid(), command_of); };
}

StatusServer::StatusServer(UniqueFd directory, std::string name, UniqueFd listener, UniqueFd end, Answer answer)
    : directory_(std::move(directory)),
      name_(std::move(name)),
      listener_(std::move(listener)),
      end_(std::move(end)),
      answer_(std::move(answer)) {}

Status StatusServer::start_thread() {
  const SignalsBlocked blocked;
  try {
    thread_ = std::thread([this] { run(); });
  } catch (const std::system_error& error) {
    return Error{error.code().value(), "cannot start a thread"};
  }
  return {};
}

StatusServer::~StatusServer() {
  if (directory_) (void)::unlinkat(directory_.get(), name_.c_str(), 0);
  (void)::eventfd_write(end_.get(), 1);
  if (thread_.joinable()) thread_.join();
}

void StatusServer::run() {
  ::prctl(PR_SET_NAME, "flockfs-status");
  std::vector<pollfd> events;
  for (;;) {
    const TimePoint at = now();
    std::erase_if(clients_, [at](Client& client) { return client.until <= at || is_done(client); });
    events.assign({{end_.get(), POLLIN, 0}});
    TimePoint until = TimePoint::max();
    for (const Client& client : clients_) {
      events.push_back({client.socket.get(), POLLOUT, 0});
      until = std::min(until, client.until);
    }
    if (clients_.size() < kMostClients && next_accept_ <= at) {
      events.push_back({listener_.get(), POLLIN, 0});
    } else if (clients_.size() < kMostClients) {
      until = std::min(until, next_accept_);
    }
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(until - at).count();
    if (::poll(events.data(), events.size(), until == TimePoint::max() ? -1 : static_cast<int>(left)) < 0) continue;
    if (events.front().revents != 0) return;
    if (events.back().fd == listener_.get() && events.back().revents != 0) take_clients();
  }
}

// Those who ask at the same time get the same answer.
void StatusServer::take_clients() {
  std::shared_ptr<const std::string> text;
  while (clients_.size() < kMostClients) {
    UniqueFd socket(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
    if (!socket && (errno == EINTR || errno == ECONNABORTED)) continue;
    if (!socket) {
      if (errno != EAGAIN) next_accept_ = now() + kNoDescriptorPause;
      return;
    }
    if (!may_ask(socket.get(), directory_.valid()) || has_gone(socket.get())) continue;
    if (!text) text = make_answer();
    if (!text) return;
    clients_.push_back({std::move(socket), text, 0, now() + kClientLimit});
  }
}

// Null if there is no memory for it: the mirror is worth more than its status.
std::shared_ptr<const std::string> StatusServer::make_answer() const {
  try {
    return std::make_shared<const std::string>(answer_());
  } catch (const std::exception& failure) {
    log_error("status", {}, Error{0, failure.what()});
    return nullptr;
  }
}

// Sends what can be sent. True if there is nothing more to do for it.
bool StatusServer::is_done(Client& client) {
  while (client.sent < client.text->size()) {
    const ssize_t sent = ::send(client.socket.get(), client.text->data() + client.sent,
                                client.text->size() - client.sent, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent < 0 && errno == EINTR) continue;
    if (sent < 0) return errno != EAGAIN;
    client.sent += static_cast<std::size_t>(sent);
  }
  return true;
}

}  // namespace flockfs
