#pragma once

#include <sys/stat.h>

#include <array>
#include <atomic>
#include <cstdint>

#include "base/mutex.h"
#include "tree/inode.h"

namespace flockfs {

// Remembers for each inode what the kernel may have in its attribute cache, so that an open needs to invalidate only
// what is out of date (DESIGN 4.5). Thread-safe.
//
// The kernel drops attributes that reach it late (fs/fuse/inode.c, attr_version), so "the last reply" is not always
// what it keeps. What is sure: whatever it keeps was read from the source after begin() of the earliest reply since the
// last reset(). If the file has not changed since then (its ctime is older), every one of those replies said the same.
class AttributeRecord {
 public:
  // A moment before the source is asked for attributes that a reply will carry.
  struct Moment {
    std::int64_t stamp_ns = 0;
    std::uint64_t checks = 0;
  };
  [[nodiscard]] Moment now() const;

  // To be called after the inode is known and before the reply. False if an open has asked current() since the moment:
  // it knew nothing of this reply, so attributes read before now may be older than what that open promised; read again.
  [[nodiscard]] bool begin(Inode& inode, const Moment& before);
  // What the reply says.
  void told(Inode& inode, const struct stat& st);

  // Whether all that the kernel may have is still so, given what an open has just read.
  [[nodiscard]] bool current(Inode& inode, const struct stat& st);
  // Whether the kernel, if it was told of the rights at all, was told of these at last.
  [[nodiscard]] bool rights_as_told(Inode& inode, const struct stat& st);
  // Before the kernel is made to forget.
  void reset(Inode& inode);

 private:
  Mutex& mutex_of(const Inode& inode) {
    return mutexes_[(reinterpret_cast<std::uintptr_t>(&inode) >> 6) % mutexes_.size()];
  }

  std::atomic<std::uint64_t> checks_{0};  // calls of current()
  std::array<Mutex, 64> mutexes_;         // one for many inodes: a mutex each would be a third of an inode
};

}  // namespace flockfs
