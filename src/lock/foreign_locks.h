#pragma once

#include <sys/types.h>

#include <cstdint>
#include <functional>
#include <optional>
#include <string_view>

#include "lock/file_id.h"
#include "lock/lock_mode.h"

namespace flockfs {

enum class ForeignLockKind : std::uint8_t { kFlock, kPosix, kOfd };

// One line of /proc/locks: somebody holds a lock on a file or waits for one.
struct ForeignLock {
  FileId file;  // the device is the superblock's: on btrfs it is not what stat(2) says
  ForeignLockKind kind = ForeignLockKind::kFlock;
  LockMode mode = LockMode::kShared;
  bool waits = false;  // a "->" line
  pid_t pid = 0;       // the process that asked; -1 for kOfd
  friend bool operator==(const ForeignLock&, const ForeignLock&) = default;
};

// A line of /proc/locks (proc(5)); nullopt for leases, unknown kinds and whatever is no such line.
[[nodiscard]] std::optional<ForeignLock> parse_lock_line(std::string_view line);

// The kernel's lists of locks. Thread-safe. Not for FUSE workers: see ProcForeignLocks.
class ForeignLocks {
 public:
  virtual ~ForeignLocks() = default;

  // Calls visit for each lock whose process is not this one. One look at all files. False if the list cannot be read.
  virtual bool for_each(const std::function<void(const ForeignLock&)>& visit) = 0;

  // The FileId under which the list shows the flock that this descriptor's open file description holds.
  virtual std::optional<FileId> listed_as(int fd) = 0;
};

// Reads /proc/locks and /proc/self/fdinfo. Opening the list waits for an RCU grace period (the kernel takes a per-CPU
// rwsem for writing): measured 9 to 22 ms for the first read, 1 ms per 1,000 locks after that.
class ProcForeignLocks final : public ForeignLocks {
 public:
  bool for_each(const std::function<void(const ForeignLock&)>& visit) override;
  std::optional<FileId> listed_as(int fd) override;
};

}  // namespace flockfs
