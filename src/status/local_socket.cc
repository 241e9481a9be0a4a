#include "status/local_socket.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstddef>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <string_view>

namespace flockfs {
namespace {

constexpr timeval kConnectLimit{.tv_sec = 5, .tv_usec = 0};
// While it is bound but does not listen yet: whoever looks for sockets of the dead leaves it alone.
constexpr const char* kUnfinished = "new.";

Result<sockaddr_un> address_of(int directory, const std::string& name) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  const int length =
      std::snprintf(address.sun_path, sizeof address.sun_path, "/proc/self/fd/%d/%s", directory, name.c_str());
  if (length < 0 || static_cast<std::size_t>(length) >= sizeof address.sun_path) return Error{ENAMETOOLONG, {}};
  return address;
}

const sockaddr* generic(const sockaddr_un& address) { return reinterpret_cast<const sockaddr*>(&address); }

// What the names without a file begin with.
constexpr std::string_view kAbstract = "flockfs/";

struct AbstractAddress {
  sockaddr_un address{};
  socklen_t size = 0;
};
Result<AbstractAddress> abstract_address(const std::string& name) {
  AbstractAddress result;
  result.address.sun_family = AF_UNIX;
  const std::string whole = std::string(kAbstract) + name;
  if (whole.size() + 1 > sizeof result.address.sun_path) return Error{ENAMETOOLONG, {}};
  std::memcpy(result.address.sun_path + 1, whole.data(), whole.size());
  result.size = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + whole.size());
  return result;
}

Result<UniqueFd> connected(const sockaddr_un& address, socklen_t size, Patience patience) {
  UniqueFd socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | (patience == Patience::kNone ? SOCK_NONBLOCK : 0), 0));
  if (!socket) return errno_error();
  (void)::setsockopt(socket.get(), SOL_SOCKET, SO_SNDTIMEO, &kConnectLimit, sizeof kConnectLimit);
  if (::connect(socket.get(), generic(address), size) != 0) return errno_error();
  return socket;
}

}  // namespace

Result<UniqueFd> listen_in(int directory, const std::string& name, int backlog) {
  const std::string unfinished = kUnfinished + name;
  const auto address = address_of(directory, unfinished);
  if (!address) return address.error();
  UniqueFd socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!socket) return errno_error();
  (void)::unlinkat(directory, unfinished.c_str(), 0);  // of a dead process that had our number
  if (::bind(socket.get(), generic(*address), sizeof *address) != 0) return errno_error();
  if (::fchmodat(directory, unfinished.c_str(), 0600, 0) != 0 || ::listen(socket.get(), backlog) != 0 ||
      ::renameat(directory, unfinished.c_str(), directory, name.c_str()) != 0) {
    const Error error = errno_error();
    (void)::unlinkat(directory, unfinished.c_str(), 0);
    return error;
  }
  return socket;
}

Result<UniqueFd> connect_in(int directory, const std::string& name, Patience patience) {
  const auto address = address_of(directory, name);
  if (!address) return address.error();
  return connected(*address, sizeof *address, patience);
}

Result<UniqueFd> listen_abstract(const std::string& name, int backlog) {
  const auto address = abstract_address(name);
  if (!address) return address.error();
  UniqueFd socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!socket || ::bind(socket.get(), generic(address->address), address->size) != 0 ||
      ::listen(socket.get(), backlog) != 0) {
    return errno_error();
  }
  return socket;
}

Result<UniqueFd> connect_abstract(const std::string& name) {
  const auto address = abstract_address(name);
  if (!address) return address.error();
  return connected(address->address, address->size, Patience::kSomeSeconds);
}

// The last word of a line is the path; '@' stands for the byte that makes it abstract.
std::vector<std::string> abstract_names() {
  std::vector<std::string> names;
  std::ifstream sockets("/proc/net/unix");
  const std::string begins = " @" + std::string(kAbstract);
  for (std::string line; std::getline(sockets, line);) {
    if (const std::size_t at = line.find(begins); at != std::string::npos)
      names.push_back(line.substr(at + begins.size()));
  }
  return names;
}

Result<ucred> peer_of(int socket) {
  ucred peer{};
  socklen_t size = sizeof peer;
  if (::getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &peer, &size) != 0) return errno_error();
  return peer;
}

std::vector<std::string> names_in(int directory) {
  std::vector<std::string> names;
  // Opened anew: a copy of the descriptor would share its place in the listing.
  UniqueFd fd(::openat(directory, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  DIR* const stream = fd ? ::fdopendir(fd.get()) : nullptr;
  if (stream == nullptr) return names;
  (void)fd.release();
  while (const dirent* entry = ::readdir(stream)) names.emplace_back(entry->d_name);
  ::closedir(stream);
  return names;
}

}  // namespace flockfs
