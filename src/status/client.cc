#include "status/client.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <functional>
#include <optional>
#include <utility>

#include "base/clock.h"
#include "base/unique_fd.h"
#include "status/local_socket.h"
#include "status/mount_list.h"
#include "status/process_tree.h"
#include "status/socket_name.h"

namespace flockfs {
namespace {

constexpr auto kAnswerLimit = std::chrono::seconds(10);
// What listens there may be somebody else's program, if root asks for a user's mirror.
constexpr std::size_t kMostAnswer = std::size_t{256} << 20U;

// Where the sockets of this user's mirrors may be, for the caller.
std::vector<std::string> directories_of(uid_t user) {
  std::vector<std::string> directories;
  if (::geteuid() == 0) directories.emplace_back("/run/flockfs");
  if (const char* mine = std::getenv("XDG_RUNTIME_DIR"); mine != nullptr && *mine == '/') {
    directories.push_back(std::string(mine) + "/flockfs");
  }
  if (user != 0) directories.push_back("/run/user/" + std::to_string(user) + "/flockfs");
  return directories;
}

// All that comes until the other end closes.
Result<std::string> read_answer(int socket) {
  const TimePoint until = now() + kAnswerLimit;
  std::string text;
  for (std::vector<char> bytes(std::size_t{64} << 10U);;) {
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(until - now()).count();
    pollfd event{socket, POLLIN, 0};
    const int ready = left <= 0 ? 0 : ::poll(&event, 1, static_cast<int>(left));
    if (ready < 0 && errno == EINTR) continue;
    if (ready <= 0) return Error{ETIMEDOUT, "the mirror does not answer"};
    const ssize_t got = ::recv(socket, bytes.data(), bytes.size(), MSG_DONTWAIT);
    if (got < 0 && (errno == EINTR || errno == EAGAIN)) continue;
    if (got < 0) return errno_error("the mirror does not answer");
    if (got == 0) break;
    text.append(bytes.data(), static_cast<std::size_t>(got));
    if (text.size() > kMostAnswer) return Error{EMSGSIZE, "the mirror's answer is too long"};
  }
  if (text.empty()) return Error{EACCES, "the mirror does not answer this user"};
  return text;
}

// The caller's own sockets, root's, or those of the user that is asked about.
bool is_trusted(const ucred& peer, uid_t user) { return peer.uid == 0 || peer.uid == ::geteuid() || peer.uid == user; }

using Wanted = std::function<bool(const SocketName&)>;

// The reports of all sockets that are wanted.
class Asking {
 public:
  // `otherwise`: what is wrong if there is none, and no reason turns up.
  Asking(uid_t user, Wanted wanted, Error otherwise)
      : user_(user), wanted_(std::move(wanted)), otherwise_(std::move(otherwise)) {}

  void ask_in(const std::string& path) {
    const UniqueFd directory(::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (!directory) {
      if (errno == EACCES) otherwise_ = errno_error("cannot open " + path);
      return;
    }
    for (const std::string& text : names_in(directory.get())) {
      if (const auto name = wanted(text)) ask(*name, connect_in(directory.get(), text), false);
    }
  }

  // Those of flockfs-run, whose names anybody could have taken.
  void ask_abstract() {
    for (const std::string& text : abstract_names()) {
      if (const auto name = wanted(text)) ask(*name, connect_as_user(text), true);
    }
  }

  Result<std::vector<std::string>> reports() && {
    if (reports_.empty()) return otherwise_;
    return std::move(reports_);
  }

 private:
  [[nodiscard]] std::optional<SocketName> wanted(const std::string& text) const {
    auto name = parse_socket_name(text);
    // The directories may be one and the same.
    if (name && (!wanted_(*name) || std::ranges::find(asked_, *name) != asked_.end())) name.reset();
    return name;
  }

  // In a user namespace root has no number by which it could be told from others.
  [[nodiscard]] Result<UniqueFd> connect_as_user(const std::string& text) const {
    if (::geteuid() != 0 || user_ == 0 || ::seteuid(user_) != 0) return connect_abstract(text);
    auto socket = connect_abstract(text);
    if (::seteuid(0) != 0) return errno_error("cannot become root again");
    return socket;
  }

  void ask(const SocketName& name, Result<UniqueFd> socket, bool abstract) {
    if (!socket) {
      // ECONNREFUSED: of a daemon that was killed.
      if (socket.error().code == EACCES) otherwise_ = Error{EACCES, "cannot ask the mirror"};
      return;
    }
    const auto peer = peer_of(socket->get());
    if (!peer || !is_trusted(*peer, user_) || (abstract && peer->pid != name.daemon)) return;
    auto answer = read_answer(socket->get());
    if (!answer) {
      otherwise_ = answer.error();
      return;
    }
    asked_.push_back(name);
    reports_.push_back(*std::move(answer));
  }

  const uid_t user_;
  const Wanted wanted_;
  Error otherwise_;
  std::vector<SocketName> asked_;
  std::vector<std::string> reports_;
};

Result<std::vector<std::string>> ask_all(uid_t user, Wanted wanted, Error otherwise) {
  Asking asking(user, std::move(wanted), std::move(otherwise));
  for (const std::string& path : directories_of(user)) asking.ask_in(path);
  asking.ask_abstract();
  return std::move(asking).reports();
}

std::optional<ListedMirror> topmost_at(const std::vector<ListedMirror>& mirrors, const std::string& path) {
  const auto found =
      std::find_if(mirrors.rbegin(), mirrors.rend(), [&](const ListedMirror& one) { return one.mountpoint == path; });
  return found == mirrors.rend() ? std::nullopt : std::optional(*found);
}

// A mirror that hangs, or lets nobody but its user in, is found in the mount table all the same.
Result<ListedMirror> mirror_at(const std::string& target) {
  const auto mirrors = mirrors_of("self");
  std::error_code error;
  std::filesystem::path plain = std::filesystem::absolute(target, error).lexically_normal();
  if (!plain.has_filename() && plain.has_relative_path()) plain = plain.parent_path();
  if (auto found = topmost_at(mirrors, plain.string())) return *found;
  struct statx info {};
  constexpr int kFlags = AT_STATX_DONT_SYNC | AT_NO_AUTOMOUNT;
  if (::statx(AT_FDCWD, target.c_str(), kFlags, 0, &info) != 0) return errno_error("cannot find " + target);
  const dev_t device = makedev(info.stx_dev_major, info.stx_dev_minor);
  for (const ListedMirror& mirror : mirrors) {
    if (mirror.device == device) return mirror;
  }
  return Error{0, target + " is not in a mirror of flockfs"};
}

Result<std::vector<std::string>> ask_by_path(const std::string& target) {
  const auto mirror = mirror_at(target);
  if (!mirror) return mirror.error();
  return ask_all(
      mirror->user, [&](const SocketName& name) { return name.device == mirror->device; },
      Error{0,
            "the mirror at " + mirror->mountpoint + " has no status (its flockfs has ended, or says why in its log)"});
}

// The devices of mirrors that these see and the caller does not.
std::vector<dev_t> hidden_mirrors(const std::vector<pid_t>& processes) {
  std::error_code error;
  const auto own = std::filesystem::read_symlink("/proc/self/ns/mnt", error);
  std::vector<dev_t> devices;
  for (const pid_t process : processes) {
    const std::string id = std::to_string(process);
    const auto space = std::filesystem::read_symlink("/proc/" + id + "/ns/mnt", error);
    if (error || space == own) continue;
    for (const ListedMirror& mirror : mirrors_of(id)) devices.push_back(mirror.device);
  }
  for (const ListedMirror& mirror : mirrors_of("self")) std::erase(devices, mirror.device);
  return devices;
}

Result<std::vector<std::string>> ask_by_process(const std::string& target) {
  pid_t process = 0;
  (void)std::from_chars(target.data(), target.data() + target.size(), process);
  struct stat st {};
  if (process <= 0 || ::stat(("/proc/" + target).c_str(), &st) != 0) {
    return Error{0, "there is no process " + target + " (a directory of that name is ./" + target + ")"};
  }
  const std::vector<pid_t> family = with_descendants(process);
  const std::vector<dev_t> devices = hidden_mirrors(family);
  return ask_all(
      st.st_uid,
      [&](const SocketName& name) {
        return std::ranges::find(family, name.daemon) != family.end() ||
               std::ranges::find(devices, name.device) != devices.end();
      },
      Error{0, "process " + target + " has no mirror of flockfs"});
}

}  // namespace

Result<std::vector<std::string>> ask_for_status(const std::string& target) {
  const bool number = !target.empty() && std::ranges::all_of(target, [](char c) { return c >= '0' && c <= '9'; });
  return number ? ask_by_process(target) : ask_by_path(target);
}

}  // namespace flockfs
