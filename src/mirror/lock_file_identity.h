#pragma once

#include <sys/types.h>

#include <cstdint>
#include <string>

#include "base/result.h"
#include "tree/file_handle.h"

namespace flockfs {

// Which object of a file system a lock file is, so that another one of the same name is never taken for it, even if it
// was given the same inode number. Good for comparing after the file system was mounted again, hence no device number
// (which mounting gives out anew): the inode number together with the time of birth, or, where the file system keeps
// none, with the file handle, which tells generations of one inode number apart. Plain data.
struct LockFileIdentity {
  std::uint64_t ino = 0;
  std::int64_t birth_ns = 0;  // since the epoch; 0: not known
  FileHandle handle;          // empty: not asked for, because the time of birth is known, or there is none
  uid_t owner = 0;

  // Whether it can be told from any other object at all.
  [[nodiscard]] bool certain() const { return ino != 0 && (birth_ns != 0 || !handle.empty()); }
};

// Of an open (or O_PATH) descriptor's object. `size` and `regular` are told besides.
struct LockFileLook {
  LockFileIdentity identity;
  std::uint64_t size = 0;
  bool regular = false;
};
[[nodiscard]] Result<LockFileLook> look_at_lock_file(int fd);

// Both are certain, and the same. The owner may have been changed meanwhile.
[[nodiscard]] bool same_object(const LockFileIdentity& one, const LockFileIdentity& other);

}  // namespace flockfs
