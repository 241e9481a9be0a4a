#include "mirror/core.h"

#include "base/log.h"

namespace flockfs {

OpenSlots::Slot Core::take_slot() {
  bool first = false;
  OpenSlots::Slot slot = slots.take(first);
  if (!slot && first) {
    log_write(LogLevel::kError,
              LogLine("error")
                  .text("op", "open")
                  .number("open_files", static_cast<std::int64_t>(slots.most()))
                  .quoted("reason", "no descriptor left for one more open (raise the limit: ulimit -n)"));
  }
  return slot;
}

}  // namespace flockfs
