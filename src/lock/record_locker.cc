#include "lock/record_locker.h"

#include <unistd.h>

#include <cerrno>

namespace flockfs {
namespace {

struct flock to_flock(const RecordLock& lock) {
  struct flock whole {};  // l_pid must be 0
  whole.l_type = lock.type;
  whole.l_whence = SEEK_SET;
  whole.l_start = lock.start;
  whole.l_len = lock.length;
  return whole;
}

int set(int fd, int command, const RecordLock& lock) {
  const struct flock wanted = to_flock(lock);
  if (::fcntl(fd, command, &wanted) == 0) return 0;
  return errno == EACCES || errno == EAGAIN ? EWOULDBLOCK : errno;
}

}  // namespace

int try_record_lock(int fd, const RecordLock& lock) {
  for (;;) {  // on a network source it is a request that a signal may interrupt
    const int error = set(fd, F_OFD_SETLK, lock);
    if (error != EINTR) return error;
  }
}

int wait_record_lock(int fd, const RecordLock& lock) { return set(fd, F_OFD_SETLKW, lock); }

int find_record_lock(int fd, const RecordLock& wanted, RecordConflict& found) {
  struct flock asked = to_flock(wanted);
  if (::fcntl(fd, F_OFD_GETLK, &asked) != 0) return errno;
  found.lock = {asked.l_type, asked.l_start, asked.l_len};
  found.holder = asked.l_pid;
  return 0;
}

}  // namespace flockfs
