#pragma once

#include <sys/types.h>

#include <cstdint>
#include <deque>
#include <optional>
#include <vector>

#include "base/unique_fd.h"

namespace flockfs {

// The numbers given out after `before` up to and including `last`, in the order in which the kernel gives them out:
// upwards, and from the start again after `most` (kernel/pid.c, idr_alloc_cyclic()).
[[nodiscard]] std::vector<pid_t> numbers_between(pid_t before, pid_t last, pid_t most);

// Which processes have been made since some moment, without a look at all there are: by the number last given out
// (/proc/loadavg), remembered now and then. Not synchronised: one thread.
class RecentProcesses {
 public:
  RecentProcesses();

  // Remembers the number last given out, if the last time is some milliseconds ago.
  void remember(std::int64_t now_ns);

  // All numbers given out since `moment_ns` or some time before it, threads' among them; nullopt if that is not known
  // or they are too many to be worth it. Times are CLOCK_BOOTTIME.
  [[nodiscard]] std::optional<std::vector<pid_t>> since(std::int64_t moment_ns, std::int64_t now_ns) const;

 private:
  struct Moment {
    std::int64_t at_ns;
    pid_t last;
  };

  [[nodiscard]] std::optional<pid_t> last_given() const;

  UniqueFd loadavg_;
  pid_t most_ = 0;
  std::deque<Moment> moments_;  // oldest first
};

}  // namespace flockfs
