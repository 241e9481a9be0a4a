#include "cli/service_manager.h"

#include <sys/socket.h>
#include <sys/un.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstdlib>

#include "base/unique_fd.h"

namespace flockfs {

Status tell_service_manager(std::string_view state) {
  const char* const wanted = std::getenv("NOTIFY_SOCKET");
  if (wanted == nullptr) return {};
  const std::string_view name = wanted;
  sockaddr_un address{};
  if (name.size() < 2 || name.size() >= sizeof address.sun_path || (name.front() != '/' && name.front() != '@')) {
    return Error{EINVAL, "NOTIFY_SOCKET"};
  }
  address.sun_family = AF_UNIX;
  std::copy(name.begin(), name.end(), address.sun_path);
  if (name.front() == '@') address.sun_path[0] = '\0';
  const auto size = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + name.size());
  const UniqueFd socket(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  if (!socket || ::sendto(socket.get(), state.data(), state.size(), MSG_NOSIGNAL | MSG_DONTWAIT,
                          reinterpret_cast<const sockaddr*>(&address), size) < 0) {
    return errno_error("cannot tell the service manager");
  }
  return {};
}

}  // namespace flockfs
