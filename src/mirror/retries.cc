#include "mirror/retries.h"

#include <algorithm>

namespace flockfs {
namespace {

// The kernel tries again at once; only a client that was stopped in between takes longer.
constexpr Duration kAnswered = std::chrono::seconds(5);
// For an ESTALE that may have been another system call's than the open that comes next.
constexpr Duration kSameCall = std::chrono::milliseconds(500);
// From any lookup in between: on a busy machine each step of the way may have to wait for a processor.
constexpr Duration kLookedUp = std::chrono::seconds(1);
constexpr int kMostMisses = 2;
// The same for a writer, before and after the lookup in between. The kernel sends the open at once, but a busy machine
// may let its thread wait for a processor.
constexpr Duration kSameCallOfWriter = std::chrono::milliseconds(5);
constexpr Duration kLookedUpByWriter = std::chrono::milliseconds(100);

}  // namespace

void Retries::drop_old(std::vector<Stale>& dropped) {
  const TimePoint at = now();
  for (auto entry = stale_.begin(); entry != stale_.end();) {
    if (entry->second.until > at && stale_.size() < kMost) {
      ++entry;
      continue;
    }
    dropped.push_back(std::move(entry->second));
    entry = stale_.erase(entry);
  }
}

void Retries::remember(pid_t tid, const InodePtr& inode, std::vector<Inode::Name> names, First first) {
  std::vector<Stale> dropped;  // its references end outside the mutex
  MutexLock lock(mutex_);
  drop_old(dropped);
  const TimePoint at = now();
  const bool open = first == First::kOpen;
  stale_.insert_or_assign(tid, Stale{inode, std::move(names), first, at + (open ? kAnswered : kSameCall),
                                     at + (open ? kAnswered : kSameCallOfWriter), UniqueFd{}, 0});
  size_ = stale_.size();
}

std::optional<Retries::Second> Retries::take(pid_t tid, const Inode* inode, const std::vector<Inode::Name>& names,
                                             LockMode mode) {
  if (none()) return std::nullopt;
  Stale stale;
  std::vector<Stale> dropped;
  MutexLock lock(mutex_);
  auto entry = stale_.find(tid);
  if (entry == stale_.end()) {  // what clients never came back for keeps deleted files in being
    drop_old(dropped);
    size_ = stale_.size();
    return std::nullopt;
  }
  stale = std::move(entry->second);
  stale_.erase(entry);
  size_ = stale_.size();
  lock.unlock();
  if (inode != nullptr && stale.misses > 0 && (stale.misses >= kMostMisses || !stale.kept)) return std::nullopt;
  if ((mode == LockMode::kShared ? stale.until : stale.until_for_writers) < now()) return std::nullopt;
  const bool same = inode != nullptr && stale.inode.get() == inode;
  const bool known = same || std::any_of(names.begin(), names.end(), [&](const Inode::Name& name) {
                       return std::find(stale.names.begin(), stale.names.end(), name) != stale.names.end();
                     });
  if (!known) return std::nullopt;
  return Second{std::move(stale.kept), stale.misses == 0};
}

bool Retries::awaited(pid_t tid, const InodePtr& parent, const char* name) {
  if (none()) return false;
  std::vector<Stale> dropped;
  MutexLock lock(mutex_);
  drop_old(dropped);
  size_ = stale_.size();
  auto entry = stale_.find(tid);
  if (entry == stale_.end()) return false;
  Stale& stale = entry->second;
  if (std::none_of(stale.names.begin(), stale.names.end(),
                   [&](const Inode::Name& have) { return have.parent == parent && have.name == name; })) {
    return false;
  }
  const TimePoint at = now();
  stale.until = std::min(stale.until, at + kLookedUp);
  stale.until_for_writers = std::min(stale.until, at + (stale.first == First::kOpen ? kLookedUp : kLookedUpByWriter));
  return true;
}

void Retries::found_nothing(pid_t tid) {
  UniqueFd dropped;
  MutexLock lock(mutex_);
  auto entry = stale_.find(tid);
  if (entry == stale_.end()) return;
  ++entry->second.misses;
  dropped = std::move(entry->second.kept);
}

void Retries::keep(pid_t tid, UniqueFd fd) {
  MutexLock lock(mutex_);
  auto entry = stale_.find(tid);
  if (entry != stale_.end()) std::swap(entry->second.kept, fd);
}

}  // namespace flockfs
