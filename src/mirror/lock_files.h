#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "base/mutex.h"
#include "base/result.h"
#include "mirror/lock_file_identity.h"
#include "mirror/lock_file_record.h"
#include "tree/credentials.h"
#include "tree/inode_table.h"

namespace flockfs {

class LockFiles;

// A writer's share in the lock files of a file's names. Move-only; the owner may be any one thread at a time. The end
// of the last share in a lock file removes it, by system calls that may wait for the source's disk: call it under no
// mutex, and before the inode's lock is given back.
class LockFileHold {
 public:
  LockFileHold() = default;
  LockFileHold(LockFileHold&& other) noexcept
      : owner_(std::exchange(other.owner_, nullptr)), keys_(std::move(other.keys_)) {}
  LockFileHold& operator=(LockFileHold&& other) noexcept;  // NOLINT(bugprone-exception-escape)
  ~LockFileHold() { reset(); }                             // NOLINT(bugprone-exception-escape)

  [[nodiscard]] bool valid() const { return owner_ != nullptr; }
  void reset();

 private:
  friend class LockFiles;
  explicit LockFileHold(LockFiles* owner) : owner_(owner) {}
  LockFiles* owner_ = nullptr;
  std::vector<std::string> keys_;  // of directories and names
};

// The lock files of one mirror, by git's protocol: who makes FILE.lock (O_CREAT|O_EXCL) may write FILE, and removes it
// afterwards. Thread-safe; all system calls are outside the mutex. Outlives every hold.
//
// They keep out whoever is not of this mirror. Its clients share them and exclude each other by the inode's exclusive
// lock, which each of them has. So one and the same name can be made, removed and made again by clients, although
// RELEASE comes some time after close(2), and a file that was renamed or removed while it is open is in nobody's way.
class LockFiles {
 public:
  // Both outlive this.
  LockFiles(const InodeTable& inodes, LockFileRecord& record) : inodes_(inodes), record_(record) {}

  // Whether a file of that name has a lock file: one that is a lock file by its name has none.
  [[nodiscard]] static bool has_one(std::string_view name);
  [[nodiscard]] static std::string name_for(std::string_view name);

  // Makes the lock files of all these names, or none. REQUIRES: the inode's exclusive lock is held; `caller` has the
  // umask and, with kPlainMaker, the supplementary groups. EEXIST if somebody else's is there already; the error's
  // context is its path. Else what the file system says (EACCES, ENAMETOOLONG, EROFS, ENOSPC, EDQUOT...). Waits for
  // nobody but another thread that is just making or removing one of them.
  Result<LockFileHold> take(std::vector<Inode::Name> names, const Caller& caller, CallerScope::Rights rights)
      EXCLUDES(mutex_);

  // Whether take() might succeed now. Looks at the source, makes nothing.
  [[nodiscard]] bool are_free(const std::vector<Inode::Name>& names) const EXCLUDES(mutex_);

 private:
  friend class LockFileHold;
  struct Made {
    InodePtr directory;
    std::string name;
    dev_t dev = 0;
    LockFileIdentity identity;
    LockFileRecord::Id record = 0;
  };
  enum class Phase : std::uint8_t { kChanging, kHeld };  // kChanging: a thread is making or removing it
  struct Entry {
    Phase phase = Phase::kChanging;
    unsigned holds = 0;
    Made made;
  };
  class Maker;

  Status take_one(const Inode::Name& name, const Maker& maker, LockFileHold& hold) EXCLUDES(mutex_);
  Result<bool> join(const std::string& key, const Inode::Name& name) EXCLUDES(mutex_);
  void release(const std::string& key) EXCLUDES(mutex_);
  bool remove(const Made& made);
  [[nodiscard]] bool is_free(const Inode::Name& name) const EXCLUDES(mutex_);

  const InodeTable& inodes_;
  LockFileRecord& record_;
  mutable Mutex mutex_;
  CondVar changed_;                                                    // some entry is not kChanging any more
  std::unordered_map<std::string, Entry> entries_ GUARDED_BY(mutex_);  // by directory and name
};

}  // namespace flockfs
