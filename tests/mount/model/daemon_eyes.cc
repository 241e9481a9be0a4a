#include "model/daemon_eyes.h"

#include <dirent.h>
#include <fcntl.h>
#include <unistd.h>

#include <array>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <memory>
#include <stdexcept>
#include <string_view>

#include "base/unique_fd.h"

namespace flockfs::test::model {
namespace {

// The lines of one descriptor that are about locks: "lock:\t1: FLOCK  ADVISORY  READ 4711 08:01:123456 0 EOF".
void add_locks(std::string_view text, std::map<ino_t, LockModel::Locks>& locks) {
  constexpr std::string_view kLine = "lock:\t";
  for (std::size_t at = text.find(kLine); at != std::string_view::npos; at = text.find(kLine, at + 1)) {
    const std::string line(text.substr(at, text.find('\n', at) - at));
    std::array<char, 16> mode{};
    unsigned long inode = 0;
    if (std::sscanf(line.c_str(), "lock:\t%*d: FLOCK %*s %15s %*d %*x:%*x:%lu", mode.data(), &inode) != 2) continue;
    LockModel::Locks& of_file = locks[inode];
    ++(std::string_view(mode.data()) == "WRITE" ? of_file.exclusive : of_file.shared);
  }
}

// Reads `file` of each entry of a directory of /proc.
void for_each_in(const std::string& directory, const std::string& file,
                 const std::function<void(std::string_view)>& see) {
  const std::unique_ptr<DIR, int (*)(DIR*)> listing(::opendir(directory.c_str()), &::closedir);
  if (!listing) return;
  while (const dirent* entry = ::readdir(listing.get())) {
    if (entry->d_name[0] == '.') continue;
    const UniqueFd fd(::openat(::dirfd(listing.get()), (entry->d_name + file).c_str(), O_RDONLY | O_CLOEXEC));
    std::array<char, 4096> text{};
    const ssize_t size = fd ? ::read(fd.get(), text.data(), text.size()) : -1;
    if (size > 0) see({text.data(), static_cast<std::size_t>(size)});
  }
}

}  // namespace

DaemonEyes::DaemonEyes(pid_t daemon, const std::string& log)
    : proc_("/proc/" + std::to_string(daemon)), log_(::open(log.c_str(), O_RDONLY | O_CLOEXEC)) {
  if (log_ < 0) throw std::runtime_error("no log at " + log);
}

DaemonEyes::~DaemonEyes() { ::close(log_); }

void DaemonEyes::look() {
  std::array<char, 65536> bytes{};
  for (;;) {
    const ssize_t size = ::read(log_, bytes.data(), bytes.size());
    if (size <= 0) return;
    rest_.append(bytes.data(), static_cast<std::size_t>(size));
    std::size_t begin = 0;
    for (std::size_t end = 0; (end = rest_.find('\n', begin)) != std::string::npos; begin = end + 1) {
      take(rest_.substr(begin, end - begin));
    }
    rest_.erase(0, begin);
  }
}

void DaemonEyes::take(const std::string& line) {
  recent_ += "  " + line + "\n";
  if (line.find(" event=unlock ") != std::string::npos) ++unlocks_;
  // A wait that has lasted long is said once more.
  if (line.find(" event=wait ") == std::string::npos || line.find(" wait_ms=") != std::string::npos) return;
  const std::size_t pid = line.find(" pid=");
  if (pid != std::string::npos) ++waits_[std::atoi(line.c_str() + pid + 5)];
}

int DaemonEyes::waits(pid_t process) const {
  const auto found = waits_.find(process);
  return found == waits_.end() ? 0 : found->second;
}

bool DaemonEyes::daemon_rests() const {
  bool rests = true;
  // One that was seen asleep may have been woken by one that was looked at later.
  for (int looks = 0; looks < 2 && rests; ++looks) {
    for_each_in(proc_ + "/task", "/syscall", [&](std::string_view text) { rests &= !text.starts_with("running"); });
  }
  return rests;
}

std::map<ino_t, LockModel::Locks> DaemonEyes::locks() const {
  std::map<ino_t, LockModel::Locks> locks;
  for_each_in(proc_ + "/fdinfo", "", [&](std::string_view text) { add_locks(text, locks); });
  return locks;
}

}  // namespace flockfs::test::model
