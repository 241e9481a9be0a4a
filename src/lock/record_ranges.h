#pragma once

#include <sys/types.h>

#include <cstdint>
#include <map>
#include <optional>
#include <vector>

#include "lock/record_locker.h"

namespace flockfs {

// The record locks that one owner holds on one file, kept beside the kernel's own list, which cannot be asked for all
// of it: a later lock replaces what it covers of earlier ones (fcntl(2)). Each is marked with the open file through
// which it was taken. Not synchronised.
class RecordRanges {
 public:
  // Sets or, with F_UNLCK, removes.
  void set(const RecordLock& lock, std::uint64_t file);
  void clear() { ranges_.clear(); }

  [[nodiscard]] bool empty() const { return ranges_.empty(); }
  [[nodiscard]] std::vector<RecordLock> all() const;
  [[nodiscard]] std::vector<RecordLock> taken_through(std::uint64_t file) const;
  // Whether one of them would keep another owner from this lock.
  [[nodiscard]] bool excludes(const RecordLock& lock) const;
  // Whether a lock of this type covers the first byte of `lock`.
  [[nodiscard]] bool holds_start_of(const RecordLock& lock) const;

 private:
  struct Range {
    off_t last;  // the last byte; the greatest off_t: to the end
    short type;
    std::uint64_t file;
  };
  void cut(off_t first, off_t last);
  void join_with_neighbours(std::map<off_t, Range>::iterator at);

  std::map<off_t, Range> ranges_;  // by first byte; no two overlap
};

}  // namespace flockfs
