#include "cli/dead_mirror.h"

#include <fcntl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <fstream>

#include "base/unique_fd.h"
#include "status/mount_list.h"

namespace flockfs {
namespace {

// Bounds what a mount table without end could make of it.
constexpr unsigned kMost = 64;

// Whether a descriptor leads into a mirror. (Its device cannot be asked for, if it is dead.)
bool is_mirror(int fd) {
  std::ifstream info("/proc/self/fdinfo/" + std::to_string(fd));
  int mount = 0;
  for (std::string word; info >> word;) {
    if (word == "mnt_id:") info >> mount;
  }
  const auto mirrors = mirrors_of("self");
  return std::ranges::find(mirrors, mount, &ListedMirror::mount) != mirrors.end();
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
    if (!there || !is_dead(there.get()) || !is_mirror(there.get())) break;
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
