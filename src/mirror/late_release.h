#pragma once

#include <chrono>
#include <vector>

#include "base/clock.h"
#include "lock/lock_engine.h"
#include "mirror/core.h"

namespace flockfs {

// RELEASE comes some time after close(2) has returned (DESIGN 4.7), so a lock found taken may be one that its client
// has given back already. Whoever may not wait for a holder looks again for so long, this often.
inline constexpr auto kCloseLimit = std::chrono::milliseconds(20);
inline constexpr auto kCloseLook = std::chrono::milliseconds(1);
// Looks that are made whatever the time: on a busy machine a thread may get no processor for longer than the limit.
inline constexpr int kFewestLooks = 20;

// Says whether what was found taken is worth another try, because those in the way have closed their file. Of one
// thread, which may sleep and is no worker. Use: make one when a try has failed; then try, each time after asking who
// is in the way, until a try succeeds or look_again() is false.
class LateRelease {
 public:
  // Waits until what the kernel had sent before has been dealt with. Both outlive this.
  LateRelease(Core& core, const Inode& inode);

  // `in_the_way`: the mirror's clients that were before the try; nobody: it is somebody outside. `waited_for`: others
  // wait for the file already, so somebody has it. Sleeps for kCloseLook if true.
  [[nodiscard]] bool look_again(const std::vector<Blocker>& in_the_way, bool waited_for);

 private:
  [[nodiscard]] bool open(const std::vector<Blocker>& in_the_way) const;

  Core& core_;
  const Inode& inode_;
  const TimePoint start_;
  TimePoint looked_;
  int looks_ = 0;
};

}  // namespace flockfs
