#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "base/mutex.h"
#include "base/result.h"
#include "base/runtime_directory.h"
#include "base/unique_fd.h"
#include "mirror/lock_file_text.h"

namespace flockfs {

// Where records are kept (open_runtime_directory).
[[nodiscard]] Result<UniqueFd> open_record_directory(Missing missing);

// Names of records begin so; the rest is random.
inline constexpr std::string_view kRecordPrefix = "lockfiles.";

// Writes down each lock file before it is made, for the start after a crash. The daemon that wrote it lives as long as
// flock(2) on the file is held. One write(2) for each lock file, without fsync: it is there for the end of the process;
// the end of the machine takes the whole directory, and leaves a lock file as git leaves one. Nothing is written when a
// lock file is removed: an old line means a certain object, and that does not come back. So the file grows, and what is
// still there is written anew when it has grown too much. Thread-safe; no system call runs under the mutex.
class LockFileRecord {
 public:
  using Id = std::uint64_t;

  static Result<std::unique_ptr<LockFileRecord>> create(const std::string& source);
  // Removes the file, unless there are lock files left in it.
  ~LockFileRecord();
  LockFileRecord(const LockFileRecord&) = delete;
  LockFileRecord& operator=(const LockFileRecord&) = delete;

  // ENAMETOOLONG if its place is too long to be written down.
  Result<Id> add(const RecordedLockFile& file) EXCLUDES(mutex_);
  // It is gone, or not ours any more.
  void remove(Id id) EXCLUDES(mutex_);

 private:
  struct File {
    std::string name;
    UniqueFd fd;  // O_APPEND, locked
  };
  using FilePtr = std::shared_ptr<const File>;

  LockFileRecord(UniqueFd directory, std::string source)
      : directory_(std::move(directory)), source_(std::move(source)) {}
  Result<FilePtr> new_file() const;
  void write_anew() EXCLUDES(mutex_);

  const UniqueFd directory_;
  const std::string source_;
  std::atomic<bool> rewriting_{false};

  Mutex mutex_;
  FilePtr file_ GUARDED_BY(mutex_);
  std::vector<FilePtr> unmerged_ GUARDED_BY(mutex_);              // what is in these could not be written anew
  std::unordered_map<Id, std::string> lines_ GUARDED_BY(mutex_);  // of what is there now
  std::size_t live_bytes_ GUARDED_BY(mutex_) = 0;
  std::size_t written_ GUARDED_BY(mutex_) = 0;
  Id last_ GUARDED_BY(mutex_) = 0;
};

}  // namespace flockfs
