#include "cli/dead_mirror.h"

#include <fcntl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <fstream>

#include "base/unique_fd.h"

namespace flockfs {
namespace {

// Bounds what a mount table without end could make of it.
constexpr unsigned kMost = 64;

// The mount that a descriptor leads to, as mountinfo numbers it; empty if that cannot be read.
std::string mount_of(int fd) {
  std::ifstream info("/proc/self/fdinfo/" + std::to_string(fd));
  for (std::string word; info >> word;) {
    if (word == "mnt_id:" && info >> word) return word;
  }
  return {};
}

// 36 35 98:0 / /mnt rw,noatime master:1 - fuse.flockfs /srv/data rw
bool is_mirror(const std::string& mount) {
  std::ifstream table("/proc/self/mountinfo");
  for (std::string line; std::getline(table, line);) {
    if (!line.starts_with(mount + " ")) continue;
    return line.find(" - fuse.flockfs ") != std::string::npos;
  }
  return false;
}

// Asks the file system itself: from what it remembers the kernel would answer for a dead one, too.
bool is_dead(int fd) {
  struct statx ignored {};
  return ::statx(fd, "", AT_EMPTY_PATH | AT_STATX_FORCE_SYNC, STATX_TYPE, &ignored) != 0 && errno == ENOTCONN;
}

}  // namespace

Result<unsigned> detach_dead_mirrors(const std::string& mountpoint) {
  unsigned detached = 0;
  for (; detached < kMost; ++detached) {
    const UniqueFd there(::open(mountpoint.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
    if (!there || !is_dead(there.get())) break;
    const std::string mount = mount_of(there.get());
    if (mount.empty() || !is_mirror(mount)) break;
    // By the descriptor, so that it is this mount, whatever has been put on top of it meanwhile; EINVAL: it is below
    // the mount's root.
    const std::string link = "/proc/self/fd/" + std::to_string(there.get());
    if (::umount2(link.c_str(), MNT_DETACH) != 0) {
      if (errno == EINVAL) break;
      return errno_error("cannot detach the dead mirror at '" + mountpoint + "'");
    }
  }
  return detached;
}

}  // namespace flockfs
