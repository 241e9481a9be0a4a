#include "lock/file_locker.h"

#include <fcntl.h>
#include <sys/file.h>
#include <time.h>

#include <algorithm>
#include <cerrno>
#include <random>
#include <utility>

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

// The whole file, however long it grows.
int set_record_lock(int fd, int command, short type) {
  struct flock whole {};
  whole.l_type = type;
  whole.l_whence = SEEK_SET;
  if (::fcntl(fd, command, &whole) == 0) return 0;
  return errno == EACCES || errno == EAGAIN ? EWOULDBLOCK : errno;
}

int record_lock_to_the_end(int fd, short type) {
  for (;;) {
    const int error = set_record_lock(fd, F_OFD_SETLK, type);
    if (error != EINTR) return error;
  }
}

// Whether somebody else holds any part of the file. F_OFD_GETLK does not see the locks of its own open file
// description, and asks for no right to write.
bool held_by_others(int fd) {
  struct flock whole {};
  whole.l_type = F_WRLCK;
  whole.l_whence = SEEK_SET;
  return ::fcntl(fd, F_OFD_GETLK, &whole) == 0 && whole.l_type != F_UNLCK;
}

constexpr short record_type(LockMode mode) { return mode == LockMode::kShared ? F_RDLCK : F_WRLCK; }

// Two who want both locks and wait for a different one each could go on changing places in step. EINTR if a signal was
// caught.
int step_aside(unsigned round) {
  constexpr unsigned kMostDoublings = 5;
  thread_local std::minstd_rand random{std::random_device{}()};
  std::uniform_int_distribution<long> pause(0, 200'000L << std::min(round, kMostDoublings));
  const timespec time{0, pause(random)};
  return ::nanosleep(&time, nullptr) == 0 ? 0 : errno;
}

}  // namespace

int FlockLocker::try_lock(int fd, LockMode mode) { return flock_to_the_end(fd, operation(mode) | LOCK_NB); }

int FlockLocker::wait_lock(int fd, LockMode mode) { return flock(fd, operation(mode)) == 0 ? 0 : errno; }

int FlockLocker::unlock(int fd) { return flock_to_the_end(fd, LOCK_UN); }

Conversion FlockLocker::upgrade(int held, int /*fresh*/, LockMode from) {
  if (from == LockMode::kExclusive) return Conversion::kDone;
  if (flock_to_the_end(held, LOCK_EX | LOCK_NB) == 0) return Conversion::kDone;
  return flock_to_the_end(held, LOCK_SH | LOCK_NB) == 0 ? Conversion::kRefused : Conversion::kLost;
}

int FlockLocker::downgrade(int fd) { return flock_to_the_end(fd, LOCK_SH); }

int OfdLocker::try_lock(int fd, LockMode mode) { return record_lock_to_the_end(fd, record_type(mode)); }

int OfdLocker::wait_lock(int fd, LockMode mode) { return set_record_lock(fd, F_OFD_SETLKW, record_type(mode)); }

int OfdLocker::unlock(int fd) { return record_lock_to_the_end(fd, F_UNLCK); }

Conversion OfdLocker::upgrade(int held, int fresh, LockMode /*from*/) {
  if (held_by_others(held)) return Conversion::kRefused;
  (void)unlock(held);
  if (try_lock(fresh, LockMode::kExclusive) == 0) return Conversion::kDone;
  return try_lock(held, LockMode::kShared) == 0 ? Conversion::kRefused : Conversion::kLost;
}

int PairLocker::try_lock(int fd, LockMode mode) {
  if (const int error = first_->try_lock(fd, mode); error != 0) return error;
  const int error = second_->try_lock(fd, mode);
  if (error != 0) (void)first_->unlock(fd);
  return error;
}

// Waits for the one that is taken, tries the other, and if that is taken gives back what it has and waits for that.
int PairLocker::wait_lock(int fd, LockMode mode) {
  FileLocker* wanted = first_.get();
  FileLocker* other = second_.get();
  for (unsigned round = 0;; ++round) {
    if (const int error = wanted->wait_lock(fd, mode); error != 0) return error;
    const int error = other->try_lock(fd, mode);
    if (error == 0) return 0;
    (void)wanted->unlock(fd);
    if (error != EWOULDBLOCK) return error;
    if (const int caught = round == 0 ? 0 : step_aside(round); caught != 0) return caught;
    std::swap(wanted, other);
  }
}

// A part that was converted before the other one was refused goes back; either being lost is both.
Conversion PairLocker::upgrade(int held, int fresh, LockMode from) {
  const Conversion one = first_->upgrade(held, fresh, from);
  if (one == Conversion::kLost) (void)second_->unlock(held);
  if (one != Conversion::kDone) return one;
  const Conversion other = second_->upgrade(held, fresh, LockMode::kShared);
  if (other == Conversion::kLost) (void)first_->unlock(held);
  if (other == Conversion::kRefused && from == LockMode::kShared) (void)first_->downgrade(held);
  return other;
}

int PairLocker::unlock(int fd) {
  const int second = second_->unlock(fd);
  const int first = first_->unlock(fd);
  return first != 0 ? first : second;
}

std::unique_ptr<FileLocker> make_file_locker(LockKind kind) {
  switch (kind) {
    case LockKind::kOfd:
      return std::make_unique<OfdLocker>();
    case LockKind::kFlockAndOfd:
      return std::make_unique<PairLocker>(std::make_unique<FlockLocker>(), std::make_unique<OfdLocker>());
    case LockKind::kFlock:
      break;
  }
  return std::make_unique<FlockLocker>();
}

}  // namespace flockfs
