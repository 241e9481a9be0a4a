#include "mirror/core.h"

#include "base/log.h"

namespace flockfs {

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
