#include "lock/file_locker.h"

#include <sys/file.h>

#include <cerrno>

namespace flockfs {

namespace {

constexpr int operation(LockMode mode) { return mode == LockMode::kShared ? LOCK_SH : LOCK_EX; }

// On a network or FUSE source even an unlock is a request that a signal may interrupt.
int flock_to_the_end(int fd, int how) {
  while (flock(fd, how) != 0) {
    if (errno != EINTR) return errno;
  }
  return 0;
}

}  // namespace

int FlockLocker::try_lock(int fd, LockMode mode) { return flock_to_the_end(fd, operation(mode) | LOCK_NB); }

int FlockLocker::wait_lock(int fd, LockMode mode) { return flock(fd, operation(mode)) == 0 ? 0 : errno; }

int FlockLocker::unlock(int fd) { return flock_to_the_end(fd, LOCK_UN); }

}  // namespace flockfs
