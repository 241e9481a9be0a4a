#include "mirror/late_release.h"

#include <algorithm>
#include <thread>

#include "lock/holder_probe.h"
#include "mirror/release_desk.h"
#include "mirror/workers.h"
#include "tree/inode.h"

namespace flockfs {
namespace {

// How long a try gives what comes before it: what the workers are doing, and the look for mappings, which certainly
// comes.
constexpr auto kFenceLimit = std::chrono::seconds(1);
constexpr auto kMappingLimit = std::chrono::seconds(5);

}  // namespace

LateRelease::LateRelease(Core& core, const Inode& inode) : core_(core), inode_(inode), start_(now()), looked_(start_) {
  (void)core_.workers->fence(kFenceLimit);
  core_.releases->hurry();
  looked_ = now();
}

bool LateRelease::look_again(const std::vector<Blocker>& in_the_way, bool waited_for) {
  if (in_the_way.empty() || core_.stopping) return false;
  ++looks_;
  if (core_.releases->unlooked(inode_)) {
    if (now() - start_ > kMappingLimit) return false;
    looked_ = now();  // what follows counts from then on, for the lock may have gone since it was tried
    looks_ = 0;
  } else if (waited_for || open(in_the_way)) {
    return false;
  }
  std::this_thread::sleep_for(kCloseLook);
  return true;
}

// Whether one of them has the file open, as far as can be told after so long.
bool LateRelease::open(const std::vector<Blocker>& in_the_way) const {
  if (core_.releases->keeps(inode_)) return true;
  if (now() - looked_ > kCloseLimit && looks_ > kFewestLooks) return true;
  const FileId file{inode_.dev(), inode_.ino()};
  return std::any_of(in_the_way.begin(), in_the_way.end(), [&](const Blocker& blocker) {
    const auto holding = core_.holders->holding(blocker.pid, file);
    return holding && holding->any();
  });
}

}  // namespace flockfs
