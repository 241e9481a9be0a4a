#include "lock/device_locker.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include <cerrno>

namespace flockfs {

bool DeviceLocker::use_other(dev_t device) {
  MutexLock lock(mutex_);
  const bool added = others_.insert(device).second;
  any_.store(true, std::memory_order_release);
  return added;
}

FileLocker& DeviceLocker::of(int fd) const {
  if (!any_.load(std::memory_order_acquire)) return *usual_;
  struct statx info {};  // the device is known without asking the file system
  if (::statx(fd, "", AT_EMPTY_PATH | AT_STATX_DONT_SYNC, STATX_TYPE, &info) != 0) return *usual_;
  MutexLock lock(mutex_);
  return others_.contains(makedev(info.stx_dev_major, info.stx_dev_minor)) ? *other_ : *usual_;
}

bool exclude_each_other(FileLocker& one, int one_fd, FileLocker& other, int other_fd) {
  if (one.try_lock(one_fd, LockMode::kExclusive) != 0) return false;
  const int error = other.try_lock(other_fd, LockMode::kExclusive);
  if (error == 0) (void)other.unlock(other_fd);
  (void)one.unlock(one_fd);
  return error == EWOULDBLOCK;
}

}  // namespace flockfs
