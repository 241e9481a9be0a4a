#pragma once

#include <gtest/gtest.h>
#include <sys/types.h>

#include <iosfwd>
#include <string>
#include <vector>

#include "base/unique_fd.h"

namespace flockfs::test {

// What somebody who opens the source file and tries flock(2) would find.
enum class LockSeen { kFree, kShared, kExclusive };
std::ostream& operator<<(std::ostream& out, LockSeen lock);

// Tries LOCK_EX|LOCK_NB, then LOCK_SH|LOCK_NB, on the source file, and gives back what it got. So for an instant it
// holds the lock itself; where that would disturb, use kernel_locks().
[[nodiscard]] LockSeen source_lock(const std::string& source_path);

// Whether one try (operation: LOCK_SH or LOCK_EX) on the source file is granted; given back at once.
[[nodiscard]] bool try_flock_source(const std::string& source_path, int operation);

// Becomes free within the usual patience: RELEASE follows close(2), it is not part of it.
[[nodiscard]] ::testing::AssertionResult becomes_free(const std::string& source_path);
[[nodiscard]] ::testing::AssertionResult becomes(const std::string& source_path, LockSeen lock);

// A lock on the source file that the test itself holds, as an application working on the source would.
class ForeignLock {
 public:
  // Waits for the lock (operation: LOCK_SH or LOCK_EX), with a deadline; throws if it cannot be had.
  ForeignLock(const std::string& source_path, int operation);
  ~ForeignLock() { release(); }
  ForeignLock(const ForeignLock&) = delete;
  ForeignLock& operator=(const ForeignLock&) = delete;

  [[nodiscard]] int fd() const { return fd_.get(); }
  // Unlocks the open file description, not only this descriptor of it: children of the test have inherited others.
  void release();

 private:
  UniqueFd fd_;
};

struct KernelLock {
  std::string type;  // FLOCK, POSIX, OFDLCK, LEASE
  std::string mode;  // READ, WRITE, ...
  pid_t pid = 0;
  bool waits = false;
};

// The lines of /proc/locks about this file; touches nothing. The kernel does not give out that list in one piece: while
// other tests lock and unlock, a line may be missing or there twice.
[[nodiscard]] std::vector<KernelLock> kernel_locks(const std::string& source_path);

// So many FLOCK locks of the file are held and so many flock(2) calls blocked, or soon are.
[[nodiscard]] ::testing::AssertionResult has_flocks(const std::string& source_path, int held, int blocked = 0);

}  // namespace flockfs::test
