#include "mirror/wait_watcher.h"

#include <utility>

#include "mirror/core.h"
#include "mirror/events.h"

namespace flockfs {

void WatchedWait::began(const Subject& subject, std::string path, pid_t blocker) {
  if (core_.watcher == nullptr) return;
  WaitSeen seen;
  seen.path = path.empty() ? core_.inodes.path(subject.inode) : std::move(path);
  seen.mode = subject.mode;
  seen.process = subject.process;
  seen.file = {subject.inode.dev(), subject.inode.ino()};
  seen.blocker = blocker;
  MutexLock lock(mutex_);
  if (state_ != State::kNew) return;
  state_ = State::kBegun;
  number_ = seen.number = ++core_.watched_waits;
  core_.watcher->began(seen);
}

void WatchedWait::ended(Duration waited) {
  if (core_.watcher == nullptr) return;
  MutexLock lock(mutex_);
  if (std::exchange(state_, State::kEnded) == State::kBegun) core_.watcher->ended(number_, waited);
}

}  // namespace flockfs
