#pragma once

#include <fcntl.h>
#include <sys/types.h>

namespace flockfs {

// What fcntl(2) asks of a range of bytes.
struct RecordLock {
  short type = F_UNLCK;  // F_RDLCK, F_WRLCK, F_UNLCK
  off_t start = 0;       // from the start of the file
  off_t length = 0;      // 0: to the end, however long the file grows
};

// Record locks of open file descriptions (F_OFD_SETLK and its relatives). The kernel knows all the rules: ranges,
// splitting and conversion, conflicts with everybody else's record locks of either kind. A descriptor must be readable
// for F_RDLCK, writable for F_WRLCK. Each returns 0 or an errno value. Thread-safe.

// EWOULDBLOCK if somebody else's lock is in the way. Never waits for a lock, never returns EINTR.
[[nodiscard]] int try_record_lock(int fd, const RecordLock& lock);

// Waits for the lock. EINTR if a signal was caught: nothing has changed then.
[[nodiscard]] int wait_record_lock(int fd, const RecordLock& lock);

struct RecordConflict {
  RecordLock lock;   // F_UNLCK: nobody's is in the way
  pid_t holder = 0;  // -1: an open file description, whose process the kernel does not know; else as F_GETLK says it
};

// The first lock that is in the way of this one, as F_OFD_GETLK finds it; asked about F_UNLCK: the first of this open
// file description's own (Linux 6.4).
[[nodiscard]] int find_record_lock(int fd, const RecordLock& wanted, RecordConflict& found);

// Whether the thread is in fcntl(2) and waits for a POSIX record lock (F_SETLKW). False as well if that cannot be seen,
// or if the call is one of another architecture. Reads /proc: not for FUSE workers.
[[nodiscard]] bool waits_for_posix_lock(pid_t tid);

}  // namespace flockfs
