#include "run/wait_board.h"

#include <algorithm>

#include "base/printable.h"
#include "mirror/clients.h"

namespace flockfs {
namespace {

bool is_in_the_way(const ForeignLock& lock, const WaitBoard::Wait& wait, const std::vector<pid_t>& ours) {
  return !lock.waits && lock.file.ino == wait.file.ino && in_the_way(lock.mode, wait.mode) &&
         std::ranges::find(ours, lock.pid) == ours.end();
}

}  // namespace

void WaitBoard::began(std::size_t mirror, const WaitSeen& wait, TimePoint now) {
  const std::string holder = wait.blocker == 0 ? std::string() : describe_process(wait.blocker);
  waits_.insert_or_assign({mirror, wait.number}, Wait{wait.path, holder, wait.mode, wait.file, now});
}

void WaitBoard::ended(std::size_t mirror, std::uint64_t number, Duration waited) {
  const auto found = waits_.find({mirror, number});
  if (found == waits_.end()) return;
  if (!longest_ || waited > longest_->waited) longest_ = Longest{found->second.path, found->second.holder, waited};
  waits_.erase(found);
}

void WaitBoard::forget(std::size_t mirror) {
  std::erase_if(waits_, [mirror](const auto& entry) { return entry.first.first == mirror; });
}

void WaitBoard::look(ForeignLocks& locks, const std::vector<pid_t>& ours) {
  // A file's device is not always the one that the list names (btrfs), so the inode alone will do where both never
  // agree.
  std::map<Key, std::pair<pid_t, bool>> met;
  (void)locks.for_each([&](const ForeignLock& lock) {
    for (const auto& [key, wait] : waits_) {
      if (!is_in_the_way(lock, wait, ours)) continue;
      const bool exact = lock.file.dev == wait.file.dev;
      const auto known = met.find(key);
      if (known == met.end() || (exact && !known->second.second)) met[key] = {lock.pid, exact};
    }
  });
  for (const auto& [key, holder] : met) {
    waits_[key].holder = holder.first > 0 ? describe_process(holder.first) : "somebody (an open file description lock)";
  }
}

const WaitBoard::Wait* WaitBoard::oldest() const {
  const auto found = std::ranges::min_element(waits_, {}, [](const auto& entry) { return entry.second.since; });
  return found == waits_.end() ? nullptr : &found->second;
}

std::string describe_process(pid_t process) {
  const std::string name = command_of(process);
  return (name.empty() ? "process " + std::to_string(process)
                       : escaped(name) + " (process " + std::to_string(process) + ")");
}

}  // namespace flockfs
