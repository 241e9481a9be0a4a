// EDEADLK of RecordLocks: owners that wait for each other.

#include <algorithm>
#include <cerrno>

#include "mirror/record_owner.h"

namespace flockfs {
namespace {

// So many waits are looked at; the kernel itself gives up after ten (fs/locks.c).
constexpr std::size_t kMostWaits = 32;

}  // namespace

// The waits by which this one's owner waits for itself; empty if it does not.
std::vector<RecordLocks::TaskPtr> RecordLocks::circle_of(const TaskPtr& task) const {
  struct Reached {
    TaskPtr task;
    std::size_t from;
  };
  std::vector<Reached> reached{{task, 0}};
  const auto known = [&](const TaskPtr& other) {
    return std::any_of(reached.begin(), reached.end(), [&](const Reached& at) { return at.task == other; });
  };
  for (std::size_t i = 0; i < reached.size(); ++i) {
    const TaskPtr at = reached[i].task;
    for (const auto& [id, holder] : at->owner->file->owners) {
      if (id == at->client.owner || !holder->ranges.excludes(at->lock)) continue;
      if (id == task->client.owner) {
        std::vector<TaskPtr> circle{at};
        for (std::size_t back = i; back != 0; back = reached[back].from)
          circle.push_back(reached[reached[back].from].task);
        return circle;
      }
      for (const auto& [number, other] : waits_) {
        if (other->client.owner != id || other->cancelled != 0 || known(other)) continue;
        if (reached.size() < kMostWaits) reached.push_back({other, i});
      }
    }
  }
  return {};
}

// In a thread of the pool, before it waits; then the task is cancelled.
bool RecordLocks::deadlocks(const TaskPtr& task) {
  std::vector<TaskPtr> circle;
  {
    MutexLock lock(mutex_);
    circle = circle_of(task);
  }
  if (circle.empty()) return false;
  for (const TaskPtr& waiting : circle) {
    if (!waits_for_posix_lock(waiting->client.tid)) return false;
  }
  // Another one of them may have been refused meanwhile.
  MutexLock lock(mutex_);
  if (task->cancelled != 0 || circle_of(task).empty()) return false;
  task->cancelled = EDEADLK;
  return true;
}

}  // namespace flockfs
