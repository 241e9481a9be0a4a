#pragma once

#include <sys/types.h>

#include <atomic>
#include <chrono>
#include <map>
#include <vector>

#include "base/clock.h"
#include "base/mutex.h"
#include "base/unique_fd.h"
#include "tree/inode.h"

namespace flockfs {

// Remembers who was answered ESTALE at open, since the kernel tries exactly once more (DESIGN 4.4) and a second ESTALE
// would reach the client: the second try gets what is there. Thread-safe.
class Retries {
 public:
  // The kernel tries again at once; only a client that was stopped in between takes longer.
  static constexpr auto kAnswered = std::chrono::seconds(5);
  // For an ESTALE that may have been another system call's than the open that comes next.
  static constexpr auto kSameSystemCall = std::chrono::milliseconds(5);

  // The thread was answered ESTALE about this inode, known by these names.
  void remember(pid_t tid, const InodePtr& inode, std::vector<Inode::Name> names, Duration how_long = kAnswered);

  // The same for an O_CREAT open that found the name taken.
  void remember_name(pid_t tid, const InodePtr& parent, const char* name) { remember(tid, nullptr, {{parent, name}}); }
  bool take_name(pid_t tid, const InodePtr& parent, const char* name) { return take(tid, nullptr, {{parent, name}}); }

  // Whether an open by this thread is such a second try: of the same inode (the kernel opens a magic link again without
  // a lookup), or of what has one of its names now. Forgets it.
  bool take(pid_t tid, const Inode* inode, const std::vector<Inode::Name>& names);

  // Whether a lookup is the one between the two tries. Then what it finds has to be kept in being until the second,
  // which else could find it replaced and gone once more: keep() takes a descriptor of it.
  [[nodiscard]] bool awaited(pid_t tid, const InodePtr& parent, const char* name);
  void keep(pid_t tid, UniqueFd fd);

 private:
  struct Stale {
    InodePtr inode;
    std::vector<Inode::Name> names;
    TimePoint until;
    UniqueFd kept;  // O_PATH
  };
  static constexpr std::size_t kMost = 4096;

  void drop_old(std::vector<Stale>& dropped) REQUIRES(mutex_);

  std::atomic<std::size_t> size_{0};  // of stale_: most lookups ask only this
  Mutex mutex_;
  std::map<pid_t, Stale> stale_ GUARDED_BY(mutex_);
};

}  // namespace flockfs
