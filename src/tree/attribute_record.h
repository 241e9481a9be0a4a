#pragma once

#include <sys/stat.h>

#include <array>

#include "base/mutex.h"
#include "tree/inode.h"

namespace flockfs {

// Remembers for each inode what the kernel may have in its attribute cache, so that an open needs to invalidate only what
// is out of date (DESIGN 4.5). Thread-safe.
//
// The kernel drops attributes that reach it late (fs/fuse/inode.c, attr_version), so "the last reply" is not always what it
// keeps. What is sure: whatever it keeps was read from the source after begin() of the earliest reply since the last
// reset(). If the file has not changed since then (its ctime is older), every one of those replies said the same.
class AttributeRecord {
 public:
  // Before the source is asked for attributes that a reply will carry.
  void begin(Inode& inode);
  // What that reply says.
  void told(Inode& inode, const struct stat& st);
  // Whether all that the kernel may have is still so.
  [[nodiscard]] bool current(Inode& inode, const struct stat& st);
  // Before the kernel is made to forget.
  void reset(Inode& inode);

 private:
  Mutex& mutex_of(const Inode& inode) { return mutexes_[(reinterpret_cast<std::uintptr_t>(&inode) >> 6) % mutexes_.size()]; }

  std::array<Mutex, 64> mutexes_;  // one for many inodes: a mutex each would be a third of an inode
};

}  // namespace flockfs
