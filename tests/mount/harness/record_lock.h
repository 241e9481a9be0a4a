#pragma once

#include <gtest/gtest.h>
#include <sys/types.h>

#include <string>

#include "harness/child.h"
#include "harness/source_lock.h"

namespace flockfs::test {

// The two kinds of fcntl(2) record locks.
enum class RecordLock { kPosix, kOfd };

// What somebody who asks for a record lock of the whole source file would find (F_GETLK); touches nothing. POSIX locks
// of the test itself are not seen, so it must not have any.
[[nodiscard]] LockSeen source_record(const std::string& source_path, RecordLock kind = RecordLock::kPosix);
// Is so, or soon is.
[[nodiscard]] ::testing::AssertionResult record_becomes(const std::string& source_path, LockSeen lock);

// F_SETLK (or F_OFD_SETLK) for the whole file: 0 or an errno. `type`: F_RDLCK, F_WRLCK, F_UNLCK.
[[nodiscard]] int set_record(int fd, short type, RecordLock kind = RecordLock::kOfd, bool waits = false);

// A process that holds a record lock on a source file, as an application working there would; by default on all of it.
class RecordHolder {
 public:
  // Returns when it has the lock; throws if that cannot be had in time.
  RecordHolder(const std::string& source_path, short type, RecordLock kind, off_t start = 0, off_t length = 0);

  [[nodiscard]] pid_t pid() const { return child_.pid(); }
  // Returns when it is unlocked, in the way of its kind: by closing the descriptor.
  void release();

 private:
  Child child_;
};

}  // namespace flockfs::test
