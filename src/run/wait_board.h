#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/clock.h"
#include "lock/foreign_locks.h"
#include "mirror/wait_watcher.h"

namespace flockfs {

// The opens that wait now, in all mirrors of a run, and the longest wait so far. Used by one thread.
class WaitBoard {
 public:
  struct Wait {
    std::string path;
    std::string holder;  // who is in the way, as a person reads it; empty: not known
    LockMode mode = LockMode::kShared;
    FileId file;
    TimePoint since;
  };
  struct Longest {
    std::string path;
    std::string holder;
    Duration waited{};
  };

  // `mirror`: which of them, as WaitSeen::number is its own count.
  void began(std::size_t mirror, const WaitSeen& wait, TimePoint now);
  void ended(std::size_t mirror, std::uint64_t number, Duration waited);
  // That mirror is gone, and its waits with it.
  void forget(std::size_t mirror);

  // Sees who is in the way of those who wait. `ours`: the processes of the mirrors, which lock for their clients. Takes
  // 10 to 20 ms (see ProcForeignLocks).
  void look(ForeignLocks& locks, const std::vector<pid_t>& ours);

  [[nodiscard]] std::size_t waiting() const { return waits_.size(); }
  // The one that has waited longest; null if nobody waits.
  [[nodiscard]] const Wait* oldest() const;
  [[nodiscard]] const std::optional<Longest>& longest() const { return longest_; }

 private:
  using Key = std::pair<std::size_t, std::uint64_t>;

  std::map<Key, Wait> waits_;
  std::optional<Longest> longest_;
};

// "python3 (process 12)", with the control characters of its name escaped.
[[nodiscard]] std::string describe_process(pid_t process);

}  // namespace flockfs
