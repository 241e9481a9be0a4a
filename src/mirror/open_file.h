#pragma once

#include <fcntl.h>
#include <sys/types.h>
#include <time.h>

#include <atomic>
#include <cstdint>
#include <optional>
#include <string>

#include "base/clock.h"
#include "base/mutex.h"
#include "base/unique_fd.h"
#include "lock/lock_engine.h"
#include "mirror/lock_files.h"
#include "mirror/open_slots.h"
#include "tree/inode.h"

namespace flockfs {

[[nodiscard]] inline std::int64_t boot_time_ns() {
  timespec now{};
  ::clock_gettime(CLOCK_BOOTTIME, &now);
  return std::int64_t{now.tv_sec} * 1'000'000'000 + now.tv_nsec;
}

// One open file description of a client, from the answer to OPEN or CREATE until its RELEASE and, where the kernel
// passes I/O through, the end of its last mapping. Constant after construction but for what is at the end; whoever
// drops the last reference gives the lock back, so: under no mutex.
struct OpenFile {
  OpenSlots::Slot slot;
  InodePtr inode;
  int flags = 0;   // the client's, as OPEN or CREATE gave them
  Hold hold;       // the lock and the descriptor that carries it; invalid if the filter did not select the file
  UniqueFd plain;  // the descriptor if there is no hold
  LockFileHold lock_files;  // of a writer, with lock=...+lockfile; after `hold`, so that they end before the lock does
  pid_t opener = 0;         // process, 0 if it cannot be seen from here
  std::string command;      // its name, if the log wants every unlock: at RELEASE the process may be gone
  std::optional<PathFd> path;  // keeps an inode that does not reopen within reach
  bool passthrough = false;
  TimePoint since;                             // when the lock was granted
  std::int64_t opened_at_ns = boot_time_ns();  // for telling the opener from a later process of its number

  // flock(2) of the client where the open's own lock is none that it could convert (Flocks).
  mutable Mutex flock_mutex;
  Hold flocked GUARDED_BY(flock_mutex);

  std::atomic<bool> warned{false};         // "held" has been logged
  std::atomic<bool> passed_around{false};  // closed by another process than the opener

  // Sees to it that the inode is found while the file is open, whatever becomes of its names. REQUIRES: it has its
  // inode and its descriptor.
  void keep_inode_within_reach() {
    if (inode->reopens()) return;
    if (auto found = inode->path_fd_by(fd())) path = *std::move(found);
  }

  [[nodiscard]] int fd() const { return hold.valid() ? hold.fd() : plain.get(); }
  [[nodiscard]] bool locked() const { return hold.valid(); }
  [[nodiscard]] bool writes() const { return (flags & O_ACCMODE) != O_RDONLY; }
  // Whether a mapping of it can exist: mmap(2) needs the right to read, whatever the protection.
  [[nodiscard]] bool mappable() const { return (flags & O_ACCMODE) != O_WRONLY; }
};

}  // namespace flockfs
