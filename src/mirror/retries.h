#pragma once

#include <sys/types.h>

#include <atomic>
#include <map>
#include <vector>

#include "base/clock.h"
#include "base/mutex.h"
#include "base/unique_fd.h"
#include "tree/inode.h"

namespace flockfs {

// Remembers who was answered ESTALE at open, since the kernel tries exactly once more (DESIGN 4.4) and a second ESTALE would
// reach the client: the second try gets what is there. Thread-safe.
class Retries {
 public:
  // The thread's open of this inode, known by these names, was answered ESTALE.
  void remember(pid_t tid, const InodePtr& inode, std::vector<Inode::Name> names);

  // Whether an open by this thread is such a second try: of the same inode (the kernel opens a magic link again without a
  // lookup), or of what has one of its names now. Forgets it.
  bool take(pid_t tid, const Inode& inode, const std::vector<Inode::Name>& names);

  // Called at each lookup: if it is the one between the two tries, `inode` is kept in being until the second, which else
  // could find it replaced and gone once more.
  void looked_up(pid_t tid, const InodePtr& parent, const char* name, const Inode& inode);

 private:
  struct Stale {
    InodePtr inode;
    std::vector<Inode::Name> names;
    TimePoint until;
    UniqueFd keep;  // O_PATH
  };
  static constexpr std::size_t kMost = 4096;

  void drop_old(std::vector<Stale>& dropped) REQUIRES(mutex_);

  std::atomic<std::size_t> size_{0};  // of stale_: most lookups ask only this
  Mutex mutex_;
  std::map<pid_t, Stale> stale_ GUARDED_BY(mutex_);
};

}  // namespace flockfs
