#pragma once

#include <optional>
#include <string_view>

#include "lock/lock_file_backoff.h"
#include "mirror/events.h"
#include "mirror/open_pipeline.h"

namespace flockfs {

// Who asks for an open.
enum class Purpose : std::uint8_t {
  kUse,         // a client, by open(2) or the like
  kUnclear,     // that, or the kernel; it does not wait
  kAttributes,  // the kernel, for file attributes as chattr(1) sets them: not a client's open, and takes no lock
};

// An open under way. Move-only: whoever has it has the duty to answer. Of the pipeline's own files.
struct OpenPipeline::Task {
  OpenSlots::Slot slot;
  Request request;
  InodePtr inode;
  int flags;
  Caller caller;
  pid_t tid;
  pid_t process;
  TimePoint started;
  FilterDecision decision;
  std::optional<Retries::Second> second{};  // after an ESTALE: whatever is there is served
  bool parked = false;                      // it has waited
  Purpose purpose = Purpose::kUse;
  UniqueFd spare{};             // the open file description again, if it may come to be opened without a lock
  std::string_view unlocked{};  // why it is opened without a lock that it should have
  Duration waited{};
  // Of a wait for somebody else's lock file.
  bool waited_for_lock_file = false;
  LockFileBackoff backoff{};

  [[nodiscard]] bool takes_what_is_there() const { return second && (second->sure || !parked); }
  [[nodiscard]] LockMode mode() const { return lock_mode_for_open(flags); }
  [[nodiscard]] Subject subject(const Core& core) const { return {core, *inode, mode(), process}; }
};

}  // namespace flockfs
