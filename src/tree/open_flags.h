#pragma once

#include <fcntl.h>

namespace flockfs {

// What of a client's open flags the source's open gets. O_TRUNC must not act before the lock; O_CREAT, O_EXCL,
// O_NOFOLLOW and O_DIRECTORY the kernel has dealt with; O_APPEND and O_DIRECT may change later and are each request's
// own affair. Access mode 3 (ioctl only, needs both rights) cannot carry a lock (flock(2) says EBADF), and O_TRUNC
// needs a file that can be written, whatever the client's may do: both become O_RDWR.
[[nodiscard]] constexpr int source_flags(int flags) {
  const int access = flags & O_ACCMODE;
  const bool both = access == O_ACCMODE || (access == O_RDONLY && (flags & O_TRUNC) != 0);
  return (both ? O_RDWR : access) | (flags & (O_SYNC | O_DSYNC | O_NOATIME));
}

// The same for a file that exists: one that is append-only (chattr +a) opens for writing with O_APPEND only, so that
// goes to Inode::open().
[[nodiscard]] constexpr int reopen_flags(int flags) { return source_flags(flags) | (flags & O_APPEND); }

}  // namespace flockfs
