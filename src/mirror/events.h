#pragma once

#include <string_view>
#include <vector>

#include "base/clock.h"
#include "lock/filter.h"
#include "lock/lock_engine.h"
#include "lock/lock_mode.h"
#include "mirror/core.h"

namespace flockfs {

// Who asks for what, as a line of the log tells it.
struct Subject {
  const Core& core;
  const Inode& inode;
  LockMode mode;
  pid_t process;
  std::string_view command = {};  // if known: asked of /proc else
};

// One line each (DESIGN section 2). Each asks first whether anybody wants the line; none is called under a mutex.
void log_lock(const Subject& subject, Duration waited);
void log_pass(const Subject& subject, PassReason reason);
void log_wait(const Subject& subject);
// A wait that lasts: how long already, and whom it is for.
void log_long_wait(const Subject& subject, Duration waited, const std::vector<Blocker>& blockers);
// A wait that can never end, or (if not certain) one that seems to be for processes that wait for it.
void log_deadlock(const Subject& subject, const std::vector<pid_t>& processes, bool certain);
// The lock of an open file was gone for a moment (DESIGN 1.4).
void log_lapsed(const Subject& subject, std::string_view reason);
// The same for somebody else's lock file, at `path`.
void log_wait_for_lock_file(const Subject& subject, std::string_view path);
void log_long_wait_for_lock_file(const Subject& subject, std::string_view path, Duration waited);
void log_interrupted(const Subject& subject, Duration waited);
void log_timeout(const Subject& subject, Duration waited);
// Opened without a lock, for this reason.
void log_unlocked(const Subject& subject, std::string_view reason, Duration waited);
void log_open_error(const Subject& subject, std::string_view op, int error);
void log_unlock(const Subject& subject, Duration held);
void log_held(const Subject& subject, Duration held);

}  // namespace flockfs
