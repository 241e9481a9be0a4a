#pragma once

#include <sys/stat.h>

#include <cstddef>
#include <cstdint>
#include <unordered_map>

#include "base/mutex.h"
#include "tree/inode.h"

namespace flockfs {

// Remembers since when the kernel may have listings of directories in its cache (FOPEN_CACHE_DIR), so that an
// opendir(3) shows what the source has and yet asks only once for what does not change. Thread-safe.
//
// While a directory is open, answers of before an opendir may still find their way into the cache. What is sure: since
// the last opendir that made the kernel drop its listing while nobody had the directory open, all that came into the
// cache was read later. If the directory has not changed since then, it is all the same.
class ListingRecord {
 public:
  // What an opendir is to be answered.
  enum class Answer {
    kDrop,  // the kernel caches nothing of it, and drops what it has
    kFill,  // it drops what it has, and then caches
    kKeep,  // what it has is right
  };

  // `most`: so many directories are remembered.
  explicit ListingRecord(std::size_t most = std::size_t{1} << 16) : most_(most) {}

  // A client opens the directory, whose attributes were read at the moment `now_ns` (stamp_now()) or later.
  [[nodiscard]] Answer opened(const Inode& directory, const struct stat& st, std::int64_t now_ns);
  // It is closed. REQUIRES: the answer was not kDrop.
  void closed(const Inode& directory);

 private:
  struct Kept {
    std::uint64_t generation = 0;
    std::uint32_t opens = 0;    // that may add to the cache
    std::int64_t since_ns = 0;  // 0: what the kernel has is in doubt
    std::int64_t ctime_ns = 0;
  };

  const std::size_t most_;
  Mutex mutex_;
  std::unordered_map<const Inode*, Kept> kept_ GUARDED_BY(mutex_);  // keys may have ended
};

}  // namespace flockfs
