#pragma once

#include <sys/types.h>

#include <cstdint>
#include <string>

#include "base/clock.h"
#include "base/mutex.h"
#include "lock/file_id.h"
#include "lock/lock_mode.h"

namespace flockfs {

struct Core;
struct Subject;

// An open that waits, as somebody who watches is told of it.
struct WaitSeen {
  std::uint64_t number = 0;  // of this wait, never given again by this mirror
  std::string path;          // the source's, or of the lock file that is waited for: bytes, whatever they are
  LockMode mode = LockMode::kShared;
  pid_t process = 0;  // the one that waits
  FileId file;        // as stat(2) has it
  pid_t blocker = 0;  // the client of this mirror that is in the way; 0: somebody outside, or not known
};

// Told of opens that wait, from whatever thread and under a mutex: it must not wait for anything.
class WaitWatcher {
 public:
  virtual ~WaitWatcher() = default;
  virtual void began(const WaitSeen& wait) = 0;
  virtual void ended(std::uint64_t number, Duration waited) = 0;
};

// One wait of an open, as core.watcher hears of it, if there is one: its beginning and its end, in this order, or
// neither. Thread-safe.
class WatchedWait {
 public:
  explicit WatchedWait(Core& core) : core_(core) {}

  // `path`: empty for that of the subject's file. `blocker`: as in WaitSeen.
  void began(const Subject& subject, std::string path = {}, pid_t blocker = 0);
  void ended(Duration waited);

 private:
  enum class State : std::uint8_t { kNew, kBegun, kEnded };

  Core& core_;
  Mutex mutex_;
  State state_ GUARDED_BY(mutex_) = State::kNew;
  std::uint64_t number_ GUARDED_BY(mutex_) = 0;
};

}  // namespace flockfs
