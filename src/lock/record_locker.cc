#include "lock/record_locker.h"

#include <fcntl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>

#include "base/unique_fd.h"

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

// "72 0x3 0x7 ..." (proc(5)).
bool waits_for_posix_lock(pid_t tid) {
  char path[48];
  std::snprintf(path, sizeof path, "/proc/%d/syscall", tid);
  const UniqueFd file(tid > 0 ? ::open(path, O_RDONLY | O_CLOEXEC) : -1);
  char text[256];
  const ssize_t size = file ? ::read(file.get(), text, sizeof text - 1) : -1;
  if (size <= 0) return false;
  text[size] = '\0';
  long call = 0;
  unsigned long command = 0;
  return std::sscanf(text, "%ld %*x %lx", &call, &command) == 2 && call == SYS_fcntl && command == F_SETLKW;
}

}  // namespace flockfs
