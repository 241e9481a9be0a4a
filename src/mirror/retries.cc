#include "mirror/retries.h"

#include <fcntl.h>

#include <algorithm>
#include <chrono>

namespace flockfs {
namespace {

// The kernel tries again at once; only a client that was stopped in between takes longer.
constexpr auto kRemembered = std::chrono::seconds(5);

TimePoint now() { return SteadyClock().now(); }

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

void Retries::remember(pid_t tid, const InodePtr& inode, std::vector<Inode::Name> names) {
  std::vector<Stale> dropped;  // its references end outside the mutex
  MutexLock lock(mutex_);
  drop_old(dropped);
  stale_.insert_or_assign(tid, Stale{inode, std::move(names), now() + kRemembered, UniqueFd{}});
  size_ = stale_.size();
}

bool Retries::take(pid_t tid, const Inode& inode, const std::vector<Inode::Name>& names) {
  if (size_ == 0) return false;
  Stale stale;
  MutexLock lock(mutex_);
  auto entry = stale_.find(tid);
  if (entry == stale_.end()) return false;
  stale = std::move(entry->second);
  stale_.erase(entry);
  size_ = stale_.size();
  lock.unlock();
  if (stale.until < now()) return false;
  if (stale.inode.get() == &inode) return true;
  return std::any_of(names.begin(), names.end(), [&](const Inode::Name& name) {
    return std::find(stale.names.begin(), stale.names.end(), name) != stale.names.end();
  });
}

void Retries::looked_up(pid_t tid, const InodePtr& parent, const char* name, const Inode& inode) {
  if (size_ == 0) return;
  {
    MutexLock lock(mutex_);
    auto entry = stale_.find(tid);
    if (entry == stale_.end()) return;
    const auto& names = entry->second.names;
    const bool ours = std::any_of(names.begin(), names.end(), [&](const Inode::Name& have) {
      return have.parent == parent && have.name == name;
    });
    if (!ours) return;
  }
  auto path = inode.path_fd();
  if (!path) return;
  UniqueFd keep(::fcntl(path->get(), F_DUPFD_CLOEXEC, 0));
  MutexLock lock(mutex_);
  auto entry = stale_.find(tid);
  if (entry != stale_.end()) std::swap(entry->second.keep, keep);
}

}  // namespace flockfs
