#pragma once

#include <cerrno>
#include <cstdint>
#include <memory>
#include <utility>

#include "lock/foreign_locks.h"
#include "lock/lock_mode.h"

namespace flockfs {

// What became of an attempt to change a shared lock into an exclusive one.
enum class Conversion : std::uint8_t {
  kDone,
  kRefused,  // somebody else holds the file; the shared lock is still there
  kLost,     // somebody else took the file meanwhile: nothing is held
};

// The seam between flockfs and the kernel's locks: what an open takes on the source file, behind an interface so that
// tests can play the file system. Thread-safe. All calls return 0 or an errno value; none touches the file's content.
//
// One implementation for each value of lock=; a lock made of several parts is one FileLocker made of several, which
// takes all parts or none and so returns 0 only with all of them held.
class FileLocker {
 public:
  virtual ~FileLocker() = default;

  // EWOULDBLOCK if somebody holds an incompatible lock. Never waits for a lock, never returns EINTR. Not for
  // converting: `fd` holds nothing.
  virtual int try_lock(int fd, LockMode mode) = 0;

  // Waits for the lock. EINTR if a signal was caught: nothing is held then.
  virtual int wait_lock(int fd, LockMode mode) = 0;

  virtual int unlock(int fd) = 0;

  // Makes the shared lock that `held` carries exclusive, without waiting. `from`: its flock(2) part may be exclusive
  // already, and stays so if the rest is refused. `fresh` is writable and of the same file; the
  // lock may be carried by both afterwards, so that unlock() is to be called for both. Not atomic where somebody else
  // holds the file: flock(2) drops the old lock before it tries the new one (measured), so it is taken back.
  virtual Conversion upgrade(int held, int fresh, LockMode from) = 0;

  // The part of this lock that is a flock(2), null if none is: what flock(2) calls of applications convert.
  virtual FileLocker* flock_part() = 0;

  // Makes the exclusive lock that `fd` carries shared: never refused. REQUIRES: this is a flock_part().
  virtual int downgrade(int fd) = 0;

  // Whether others' locks of this kind stand in the way of these.
  [[nodiscard]] virtual bool minds(ForeignLockKind kind) const = 0;
};

// lock=flock: flock(2), and nothing else in flockfs calls it. The lock belongs to the open file description.
class FlockLocker final : public FileLocker {
 public:
  int try_lock(int fd, LockMode mode) override;
  int wait_lock(int fd, LockMode mode) override;
  int unlock(int fd) override;
  Conversion upgrade(int held, int fresh, LockMode from) override;
  FileLocker* flock_part() override { return this; }
  int downgrade(int fd) override;
  [[nodiscard]] bool minds(ForeignLockKind kind) const override { return kind == ForeignLockKind::kFlock; }
};

// lock=ofd: an open-file-description record lock over the whole file (fcntl(2), F_OFD_SETLK), which those see who lock
// by fcntl(2) or lockf(3). It belongs to the open file description like a flock. The descriptor must be readable for a
// shared lock, writable for an exclusive one.
class OfdLocker final : public FileLocker {
 public:
  int try_lock(int fd, LockMode mode) override;
  int wait_lock(int fd, LockMode mode) override;
  int unlock(int fd) override;
  // `held` need not be writable, so the lock moves to `fresh`.
  Conversion upgrade(int held, int fresh, LockMode from) override;
  FileLocker* flock_part() override { return nullptr; }
  int downgrade(int /*fd*/) override { return EINVAL; }
  [[nodiscard]] bool minds(ForeignLockKind kind) const override { return kind != ForeignLockKind::kFlock; }
};

// lock=flock+ofd: both or none. While it waits for the one it does not hold the other, so it is in no cycle of those
// who take two locks in whatever order, and keeps nobody from a lock longer than a try takes.
class PairLocker final : public FileLocker {
 public:
  // `first` is tried first by everybody, so that of several who want both exactly one gets on.
  PairLocker(std::unique_ptr<FileLocker> first, std::unique_ptr<FileLocker> second)
      : first_(std::move(first)), second_(std::move(second)) {}

  int try_lock(int fd, LockMode mode) override;
  int wait_lock(int fd, LockMode mode) override;
  int unlock(int fd) override;
  Conversion upgrade(int held, int fresh, LockMode from) override;
  FileLocker* flock_part() override { return first_->flock_part() != nullptr ? first_.get() : second_->flock_part(); }
  int downgrade(int fd) override { return flock_part()->downgrade(fd); }
  [[nodiscard]] bool minds(ForeignLockKind kind) const override { return first_->minds(kind) || second_->minds(kind); }

 private:
  const std::unique_ptr<FileLocker> first_;
  const std::unique_ptr<FileLocker> second_;
};

// What lock= can say.
enum class LockKind : std::uint8_t { kFlock, kOfd, kFlockAndOfd };

[[nodiscard]] std::unique_ptr<FileLocker> make_file_locker(LockKind kind);

}  // namespace flockfs
