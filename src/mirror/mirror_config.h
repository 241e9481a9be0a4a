#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "lock/file_locker.h"
#include "lock/lock_engine.h"

namespace flockfs {

// What becomes of an open whose lock cannot be had.
enum class Otherwise : std::uint8_t { kFail, kUnlocked };

// What one mount is asked to be: the parsed options, checked, with their defaults. Plain data, constant once serving.
struct MirrorConfig {
  std::string source;                 // canonical: absolute, symlinks resolved
  std::string mountpoint;             // canonical
  std::vector<std::string> prefixes;  // canonical source paths; none means all
  std::vector<std::string> excludes;

  LockKind lock = LockKind::kFlock;
  Reopen reopen = Reopen::kJoin;
  bool lockfile = false;                             // writers also hold FILE.lock, as git does
  std::optional<std::chrono::milliseconds> timeout;  // the longest wait for a lock; 0: it is tried once; none: for ever
  Otherwise on_timeout = Otherwise::kFail;
  Otherwise on_unsupported = Otherwise::kFail;  // the source's file system has no locks
  bool try_nonblocking = false;                 // an open with O_NONBLOCK tries once

  bool read_only = false;
  bool noatime = false;
  bool hide_submounts = false;  // directories of other file systems below SOURCE are shown empty
  bool allow_other = false;
  bool passthrough = true;  // where it can be had
  std::chrono::duration<double> attr_timeout{1.0};
  std::chrono::duration<double> entry_timeout{1.0};
  std::optional<unsigned> threads;  // none: chosen from the number of processors

  std::chrono::milliseconds hold_warn{std::chrono::seconds(60)};
  std::chrono::milliseconds stop_timeout{std::chrono::seconds(10)};

  // The mountpoint is SOURCE itself, in a namespace of its own: the mirror is never detached, so that whoever is left
  // there when it ends gets ENOTCONN and not the source without locks; and only the parent process stops it by signals.
  bool covers_source = false;

  // MS_* flags of mount(2) that reach the kernel as they are (nodev, nosuid, noexec, sync, dirsync, ...).
  unsigned long mount_flags = 0;
};

}  // namespace flockfs
