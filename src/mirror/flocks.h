#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "lock/lock_engine.h"
#include "mirror/core.h"
#include "mirror/request.h"

namespace flockfs {

// flock(2) calls of the mirror's clients, made on the source file (DESIGN 1.9): on top of the lock of the open, where
// that is a flock, or a flock for themselves (files that the filter passes, lock=ofd). Thread-safe; never waits: a call
// that must wait is answered later by another thread.
class Flocks {
 public:
  // `opens` is the engine of the opens' locks. `others` has the flock(2) calls on files whose opens hold none: the same
  // engine, or one of its own where the opens' locks are of another kind. All outlive this.
  Flocks(Core& core, LockEngine& opens, LockEngine& others) : core_(core), opens_(opens), others_(others) {}

  // flock(2) with this operation (LOCK_SH, LOCK_EX or LOCK_UN, and LOCK_NB).
  void call(Request request, std::shared_ptr<OpenFile> file, int operation);

  // The kernel sent INTERRUPT for a call that waits.
  void interrupt_on_top(WaitId id) { opens_.interrupt(id); }
  void interrupt_alone(WaitId id) { others_.interrupt(id); }

  // Ends all waits with ENOTCONN, now and from now on.
  void stop() { others_.stop_waits(); }

 private:
  class Parked;

  using InTheWay = std::function<std::vector<Blocker>()>;
  using Attempt = std::function<bool(bool last)>;

  void keep_trying(const InodePtr& inode, const InTheWay& in_the_way, const Attempt& attempt);
  void try_on_top(Request request, const std::shared_ptr<OpenFile>& file, LockMode mode);
  void on_top(Request request, std::shared_ptr<OpenFile> file, int operation);
  bool try_alone(Request& request, OpenFile& file, LockRequest& wanted);
  void alone(Request request, std::shared_ptr<OpenFile> file, int operation);
  void note_lapse(const OpenFile& file) const;

  Core& core_;
  LockEngine& opens_;
  LockEngine& others_;
};

}  // namespace flockfs
