#pragma once

#include <cstdint>
#include <memory>
#include <unordered_set>

#include "base/mutex.h"
#include "base/result.h"
#include "lock/device_locker.h"
#include "lock/file_locker.h"
#include "tree/source.h"

namespace flockfs {

// Whether an errno of a lock call says that the file system has no such locks.
[[nodiscard]] bool is_unsupported(int error);

// The locks that lock= asks for, as far as the file systems at and below SOURCE have them. Each file system is asked
// when it is met: at mount time that of SOURCE, those below it before the first lock of one of their files. The
// questions are asked on a file of our own, which hardly anybody can see (it has no name, or one for a moment), and
// leave nothing behind. Thread-safe.
class LockSupport {
 public:
  // Of SOURCE, its canonical path.
  LockSupport(LockKind kind, std::string source);

  [[nodiscard]] FileLocker& locker() { return *locker_; }

  // The file system of SOURCE; to be called once, before any file is locked. Where no file can be made, a regular file
  // that is there is asked whether it can be locked. An error if it certainly has no locks; also success where there
  // was nothing to ask.
  [[nodiscard]] Status probe(const SourceMount& root);

  // REQUIRES: probe() was called. With the daemon's own credentials, before a file of this mount is locked. Says in the
  // log what it finds.
  void meet(const SourceMount& mount) EXCLUDES(mutex_);

 private:
  Status ask(const SourceMount& mount, bool others_files);
  void choose_kind(const SourceMount& mount);
  [[nodiscard]] std::string path_of(const SourceMount& mount) const;

  const std::string source_;
  std::unique_ptr<FileLocker> locker_;
  DeviceLocker* pair_ = nullptr;  // locker_ itself, if it takes both kinds

  Mutex mutex_;  // leaf
  const SourceMount* root_ = nullptr;
  std::unordered_set<const SourceMount*> met_ GUARDED_BY(mutex_);
};

}  // namespace flockfs
