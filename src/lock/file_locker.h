#pragma once

#include "lock/lock_mode.h"

namespace flockfs {

// The seam between flockfs and the kernel's locks: what an open takes on the source file, behind an interface so that
// tests can play the file system. Thread-safe. All calls return 0 or an errno value; none touches the file's content.
//
// One implementation for each value of lock=; a lock made of several parts is one FileLocker made of several, which
// takes all parts or none and so returns 0 only with all of them held.
class FileLocker {
 public:
  virtual ~FileLocker() = default;

  // EWOULDBLOCK if somebody holds an incompatible lock. Never waits for a lock, never returns EINTR. Not for
  // converting.
  virtual int try_lock(int fd, LockMode mode) = 0;

  // Waits for the lock. EINTR if a signal was caught: nothing is held then.
  virtual int wait_lock(int fd, LockMode mode) = 0;

  virtual int unlock(int fd) = 0;
};

// lock=flock: flock(2), and nothing else in flockfs calls it. The lock belongs to the open file description.
class FlockLocker final : public FileLocker {
 public:
  int try_lock(int fd, LockMode mode) override;
  int wait_lock(int fd, LockMode mode) override;
  int unlock(int fd) override;
};

}  // namespace flockfs
