#pragma once

#include <unordered_map>

#include "base/mutex.h"
#include "tree/inode.h"

namespace flockfs {

// How many of something there are of each inode. Thread-safe.
class InodeCounts {
 public:
  void add(const Inode& inode) {
    MutexLock lock(mutex_);
    ++counts_[&inode];
  }
  void remove(const Inode& inode) {
    MutexLock lock(mutex_);
    auto count = counts_.find(&inode);
    if (--count->second == 0) counts_.erase(count);
  }
  [[nodiscard]] bool any(const Inode& inode) const {
    MutexLock lock(mutex_);
    return counts_.find(&inode) != counts_.end();
  }

 private:
  mutable Mutex mutex_;
  std::unordered_map<const Inode*, unsigned> counts_ GUARDED_BY(mutex_);
};

}  // namespace flockfs
