#include "base/command_name.h"

#include <fcntl.h>
#include <unistd.h>

#include <array>
#include <cstdio>

#include "base/unique_fd.h"

namespace flockfs {

std::string command_of(pid_t process) {
  if (process <= 0) return {};
  std::array<char, 48> path{};
  (void)std::snprintf(path.data(), path.size(), "/proc/%d/comm", process);
  const UniqueFd fd(::open(path.data(), O_RDONLY | O_CLOEXEC));
  if (!fd) return {};
  std::array<char, 64> bytes{};
  const ssize_t got = ::read(fd.get(), bytes.data(), bytes.size());
  if (got <= 0) return {};
  std::string name(bytes.data(), static_cast<std::size_t>(got));
  if (name.back() == '\n') name.pop_back();
  return name;
}

}  // namespace flockfs
