// Opens that do not wait for ever: those that only try, those whose time is over, and those whose file system has no
// locks.

#include <fcntl.h>

#include <algorithm>
#include <chrono>
#include <utility>

#include "base/blocking_pool.h"
#include "mirror/events.h"
#include "mirror/late_release.h"
#include "mirror/open_task.h"
#include "mirror/wait_watcher.h"

namespace flockfs {
namespace {

// What a try without a thread to look again in waits instead.
constexpr auto kWithoutThread = std::chrono::seconds(1);

}  // namespace

std::optional<TimePoint> OpenPipeline::deadline_of(const Task& task) const {
  const auto& timeout = core_.config.timeout;
  return timeout ? std::optional(task.started + *timeout) : std::nullopt;
}

bool OpenPipeline::tries_once(const Task& task) const {
  const MirrorConfig& config = core_.config;
  return task.purpose == Purpose::kUnclear || config.timeout == std::chrono::milliseconds(0) ||
         (config.try_nonblocking && (task.flags & O_NONBLOCK) != 0);
}

// REQUIRES: a first try has failed. In a thread that may sleep, unless somebody outside has the lock.
void OpenPipeline::try_again(Task task, LockRequest wanted) {
  if (locks_.blockers(wanted.file, wanted.mode).empty()) {
    if (auto outcome = locks_.try_acquire(wanted)) {
      granted(std::move(task), *std::move(outcome));
    } else {
      timed_out(std::move(task));
    }
    return;
  }
  struct Trying {
    Task task;
    LockRequest wanted;
  };
  auto trying = std::make_shared<Trying>(Trying{std::move(task), std::move(wanted)});
  const bool started = core_.pool->run([this, trying] {
    const InodePtr inode = trying->task.inode;
    LateRelease late(core_, *inode);
    std::vector<Blocker> blockers;
    do {
      blockers = locks_.blockers(trying->wanted.file, trying->wanted.mode);
      auto outcome = locks_.try_acquire(trying->wanted);
      if (!outcome) outcome = locks_.try_join(trying->wanted);
      if (outcome) {
        granted(std::move(trying->task), *std::move(outcome));
        return;
      }
    } while (late.look_again(blockers, waiting_.any(*inode)));
    timed_out(std::move(trying->task));
  });
  if (started) return;
  trying->wanted.deadline = now() + kWithoutThread;
  park(std::move(trying->task), std::move(trying->wanted));
}

// Answers an open that fails for want of a lock.
void OpenPipeline::deny(Request& request, int error) const {
  ++core_.counters.refused;
  request.error(error);
}

void OpenPipeline::tell_watcher(WatchedWait& wait, const Subject& subject) const {
  if (core_.watcher == nullptr) return;
  const auto blockers = locks_.blockers({subject.inode.dev(), subject.inode.ino()}, subject.mode);
  const auto other = std::find_if(blockers.begin(), blockers.end(), [&](const Blocker& blocker) {
    return blocker.pid != 0 && blocker.pid != subject.process;
  });
  wait.began(subject, {}, other == blockers.end() ? 0 : other->pid);
}

void OpenPipeline::timed_out(Task task) {
  task.waited = now() - task.started;
  ++core_.counters.timeouts;
  if (core_.config.on_timeout == Otherwise::kUnlocked && task.spare) {  // none: open(2) itself waited
    open_unlocked(std::move(task), "timeout");
    return;
  }
  log_timeout(task.subject(core_), task.waited);
  deny(task.request, EAGAIN);
}

void OpenPipeline::unsupported(Task task, int error) {
  if (core_.config.on_unsupported == Otherwise::kUnlocked) {
    open_unlocked(std::move(task), "unsupported");
    return;
  }
  log_open_error(task.subject(core_), "lock", error);
  deny(task.request, error);
}

void OpenPipeline::open_unlocked(Task task, std::string_view reason) {
  task.unlocked = reason;
  auto file = std::make_shared<OpenFile>();
  file->plain = std::move(task.spare);
  finish(std::move(task), std::move(file));
}

}  // namespace flockfs
