#include "mirror/core.h"

#include <algorithm>
#include <utility>

#include "base/log.h"

namespace flockfs {
namespace {

// Of objects that no handle finds again, for the most recently used: few enough to be no burden to the machine.
constexpr std::size_t kMostKept = 256;
// For the daemon's own, one or two for each request at work, and the log.
constexpr std::size_t kReserve = 256;

}  // namespace

InodeTable::Kept Core::kept_descriptors(const Source& source) {
  const std::size_t limit = descriptor_limit();
  return {std::min<std::size_t>(limit / 8, kMostKept), source.root_mount().remote ? limit / 4 : limit / 8};
}

std::size_t Core::descriptors_for_opens(const Source& source) {
  const InodeTable::Kept kept = kept_descriptors(source);
  const SourceMount& root = source.root_mount();
  const std::size_t rest = descriptor_limit() - (root.reopens ? 0 : root.remote ? kept.remote : kept.local);
  return rest - std::min(rest / 2, kReserve);
}

Result<PathFd> Core::path_fd_of(const Inode& inode) {
  // Where a call may wait for others, no lock waits with it.
  if (inode.is_regular() && inode.reopens() && !inode.mount().open_may_wait) {
    if (auto file = backing.open_file_of(inode)) {
      const int fd = file->fd();
      return PathFd(std::move(file), fd);
    }
  }
  return inode.path_fd();
}

OpenSlots::Slot Core::take_slot() {
  OpenSlots::Slot slot = slots.take();
  if (!slot) say_exhausted();
  return slot;
}

void Core::say_exhausted() {
  if (!slots.newly_exhausted()) return;
  log_write(LogLevel::kError,
            LogLine("error")
                .text("op", "open")
                .number("open_files", static_cast<std::int64_t>(slots.most()))
                .quoted("reason", "no descriptor left for one more open (raise the limit: ulimit -n)"));
}

}  // namespace flockfs
