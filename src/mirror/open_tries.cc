// Opens that do not wait for ever: those that only try, those whose time is over, and those whose file system has no
// locks.

#include <fcntl.h>

#include <algorithm>
#include <chrono>
#include <thread>
#include <utility>

#include "base/blocking_pool.h"
#include "mirror/events.h"
#include "mirror/late_release.h"
#include "mirror/open_task.h"
#include "mirror/process_files.h"
#include "mirror/release_desk.h"
#include "mirror/wait_watcher.h"
#include "mirror/workers.h"

namespace flockfs {
namespace {

// How long a try gives what comes before it: what the workers are doing, and the look for mappings, which certainly
// comes. (For a RELEASE that had not been sent: late_release.h.)
constexpr auto kFenceLimit = std::chrono::seconds(1);
constexpr auto kMappingLimit = std::chrono::seconds(5);

TimePoint now() { return SteadyClock().now(); }

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

// Whether the clients in the way have their file open, as far as can be told after so long.
bool OpenPipeline::still_open(const Inode& inode, const std::vector<Blocker>& blockers, Duration waited,
                              int looks) const {
  if (waiting_.any(inode)) return true;
  if (core_.releases->keeps(inode)) return true;
  if (waited > kCloseLimit && looks > kFewestLooks) return true;
  const FileId file{inode.dev(), inode.ino()};
  return std::any_of(blockers.begin(), blockers.end(), [&](const Blocker& blocker) {
    const auto holding = core_.holders->holding(blocker.pid, file);
    return holding && holding->any();
  });
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
    (void)core_.workers->fence(kFenceLimit);
    core_.releases->hurry();
    const TimePoint start = now();
    TimePoint looked = start;
    for (int looks = 1;; ++looks) {
      const auto blockers = locks_.blockers(trying->wanted.file, trying->wanted.mode);
      auto outcome = locks_.try_acquire(trying->wanted);
      if (!outcome) outcome = locks_.try_join(trying->wanted);
      if (outcome) {
        granted(std::move(trying->task), *std::move(outcome));
        return;
      }
      if (blockers.empty() || core_.stopping) break;
      if (core_.releases->unlooked(*trying->task.inode)) {
        if (now() - start > kMappingLimit) break;
        looked = now();  // what follows counts from then on, for the lock may have gone since it was tried
        looks = 0;
      } else if (still_open(*trying->task.inode, blockers, now() - looked, looks)) {
        break;
      }
      std::this_thread::sleep_for(kCloseLook);
    }
    timed_out(std::move(trying->task));
  });
  if (started) return;
  // No thread for the fence: so long, then, as it might have taken.
  trying->wanted.deadline = now() + kFenceLimit;
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
