#pragma once

#include "base/result.h"
#include "lock/file_locker.h"
#include "tree/source.h"

namespace flockfs {

// Whether an errno of a lock call says that the file system has no such locks.
[[nodiscard]] bool is_unsupported(int error);

// Asks the file system of SOURCE whether it has locks, on a file of its own without a name or, where that cannot be
// made, on a regular file that is there. An error if it certainly has none; also success where there was nothing to
// ask. Leaves nothing behind.
[[nodiscard]] Status probe_locks(const Source& source, FileLocker& locker);

}  // namespace flockfs
