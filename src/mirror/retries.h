#pragma once

#include <sys/types.h>

#include <atomic>
#include <map>
#include <optional>
#include <vector>

#include "base/clock.h"
#include "base/mutex.h"
#include "base/unique_fd.h"
#include "lock/lock_mode.h"
#include "tree/inode.h"

namespace flockfs {

// Remembers who was answered ESTALE at open, since the kernel tries exactly once more (DESIGN 4.4) and a second ESTALE
// would reach the client: the second try gets what is there. Thread-safe.
class Retries {
 public:
  // Whose answer was the first ESTALE: an open's, or that of a GETATTR of nobody knows what. The permission check of an
  // open asks for attributes and takes ESTALE for its first try, but so does stat(2), and the open that follows that is
  // a first try of its own.
  enum class First { kOpen, kAttributes };

  // The thread was answered ESTALE about this inode, known by these names.
  void remember(pid_t tid, const InodePtr& inode, std::vector<Inode::Name> names, First first = First::kOpen);

  // The same for an O_CREAT open that found the name taken.
  void remember_name(pid_t tid, const InodePtr& parent, const char* name) { remember(tid, nullptr, {{parent, name}}); }
  bool take_name(pid_t tid, const InodePtr& parent, const char* name) {
    // CREATE looks at the name again itself.
    return take(tid, nullptr, {{parent, name}}, LockMode::kShared).has_value();
  }

  // A second try. What it is for can be opened as long as this lives, whatever becomes of its name.
  struct Second {
    UniqueFd kept;  // O_PATH
    // A lookup in between found nothing. Where the name was removed in the mirror that was the end of the first open,
    // and this is another one, which is served what was there a moment ago but not what was there before a wait.
    bool sure = true;
  };

  // Whether an open that arrives now from this thread is such a second try: of the same inode (the kernel opens a magic
  // link again without a lookup), or of what has one of its names now. Forgets it. If the first may have been a
  // stat(2)'s, a reader is served what was there a moment ago, which is as if it had come a moment earlier; a writer
  // only soon after the lookup in between, lest it writes to a file that has been replaced.
  std::optional<Second> take(pid_t tid, const Inode* inode, const std::vector<Inode::Name>& names, LockMode mode);
  // Most opens ask only this.
  [[nodiscard]] bool none() const { return size_ == 0; }

  // Whether a lookup is the one between the two tries, the second of which follows at once or never. Then what it finds
  // has to be kept in being until the second, which else could find it replaced and gone once more: keep() takes a
  // descriptor of it.
  [[nodiscard]] bool awaited(pid_t tid, const InodePtr& parent, const char* name);
  void keep(pid_t tid, UniqueFd fd);
  // That lookup has found nothing. The kernel may look once more at once, since the first look was for what it had
  // (fuse_dentry_revalidate()); if there is nothing again, a second try can only be a CREATE, and an open that was not
  // looked up since is none.
  void found_nothing(pid_t tid);

 private:
  struct Stale {
    InodePtr inode;
    std::vector<Inode::Name> names;
    First first;
    TimePoint until;
    TimePoint until_for_writers;
    UniqueFd kept;  // O_PATH
    int misses = 0;
  };
  static constexpr std::size_t kMost = 4096;

  void drop_old(std::vector<Stale>& dropped) REQUIRES(mutex_);

  std::atomic<std::size_t> size_{0};  // of stale_: most lookups ask only this
  Mutex mutex_;
  std::map<pid_t, Stale> stale_ GUARDED_BY(mutex_);
};

}  // namespace flockfs
