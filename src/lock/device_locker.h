#pragma once

#include <sys/types.h>

#include <atomic>
#include <memory>
#include <unordered_set>

#include "base/mutex.h"
#include "lock/file_locker.h"

namespace flockfs {

// One FileLocker for most file systems and another for those it is told of: lock=flock+ofd takes flock alone where
// record locks and flock exclude each other. A file's locks must be of one kind from first to last, so a device is
// named before any of its files is locked. Thread-safe.
class DeviceLocker final : public FileLocker {
 public:
  DeviceLocker(std::unique_ptr<FileLocker> usual, std::unique_ptr<FileLocker> other)
      : usual_(std::move(usual)), other_(std::move(other)) {}

  // Files on this device (st_dev) are the other's from now on. False if they have been already.
  bool use_other(dev_t device) EXCLUDES(mutex_);

  int try_lock(int fd, LockMode mode) override { return of(fd).try_lock(fd, mode); }
  int wait_lock(int fd, LockMode mode) override { return of(fd).wait_lock(fd, mode); }
  int unlock(int fd) override { return of(fd).unlock(fd); }
  Conversion upgrade(int held, int fresh, LockMode from) override { return of(held).upgrade(held, fresh, from); }
  FileLocker* flock_part() override { return usual_->flock_part(); }
  int downgrade(int fd) override { return of(fd).downgrade(fd); }
  // Where one kind stands for both, both stand in its way.
  [[nodiscard]] bool minds(ForeignLockKind kind) const override { return usual_->minds(kind) || other_->minds(kind); }

 private:
  [[nodiscard]] FileLocker& of(int fd) const EXCLUDES(mutex_);

  const std::unique_ptr<FileLocker> usual_;
  const std::unique_ptr<FileLocker> other_;
  std::atomic<bool> any_{false};  // nothing is asked of a descriptor where there is no such device
  mutable Mutex mutex_;           // leaf
  std::unordered_set<dev_t> others_ GUARDED_BY(mutex_);
};

// Whether two kinds of locks stand in each other's way on a file system: `one` is taken on one descriptor and `other`
// tried on the second. Both are of one file that nobody else has, open for reading and writing, with open file
// descriptions of their own. Leaves nothing locked.
[[nodiscard]] bool exclude_each_other(FileLocker& one, int one_fd, FileLocker& other, int other_fd);

}  // namespace flockfs
