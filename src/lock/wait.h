#pragma once

#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "lock/holder_probe.h"
#include "lock/lock_engine.h"
#include "lock/lock_table.h"

namespace flockfs {

// One parked request. Shared by the room and by the thread that asks the kernel for it, so that the descriptor stays
// open until that thread has let go of it, however the wait ends.
struct Wait {
  enum class State : std::uint8_t {
    kParking,  // on_parked() is still running
    kQueued,
    kEnded,  // whoever made it so tells the outcome, unless the waiter is just being told that it waits
  };
  enum class Told : std::uint8_t {
    kNothing,
    kBeingTold,  // on_wait() is running
    kWaits,
  };

  Wait(WaitId wait_id, LockRequest wanted, std::shared_ptr<LockWaiter> who, TimePoint now, BlockingPool& pool)
      : id(wait_id), request(std::move(wanted)), since(now), waiter(std::move(who)), point(pool) {}

  // Whether a client may wait for this for ever.
  [[nodiscard]] bool endless() const { return !internal && !request.deadline && !request.alone; }
  [[nodiscard]] bool is_open() const { return member == 0 && !internal; }

  // Constant; but request.fd is taken by whoever tells that the lock is granted.
  const WaitId id;
  LockRequest request;  // of a flock(2): without a descriptor, the holder has it
  const TimePoint since;

  // Constant once it is parked.
  pid_t process = 0;      // that waits; 0: cannot be seen
  LockId member = 0;      // whose flock(2) this is
  bool internal = false;  // an open file's own lock that was lost: nobody waits

  std::shared_ptr<LockWaiter> waiter;  // park()'s until queued, then that of whoever tells the outcome
  InterruptiblePoint point;            // thread-safe

  // Guarded by the room's mutex.
  State state = State::kParking;
  std::optional<WaitEnd> early_end;  // ended while parking: park() tells it
  Told told = Told::kNothing;
  bool trying = true;                          // it may yet be had without a wait
  std::optional<LockOutcome> ended_meanwhile;  // while being told: told after it by the same thread
  bool asked = false;                          // the kernel is being asked for it, maybe by a thread that blocks
  bool blocked_for = false;                    // a thread of the pool waits in the kernel for it
  bool gave_up = false;                        // the open's own lock, for a flock(2)
  bool turn_due = false;                       // it is about to be looked whether it is its turn
  bool in_turn = false;                        // in LockRecord::turns, not in the queue
  LockRecord::Queue::iterator place;
  std::optional<TimePoint> next_look;  // at the thread's signals
  std::optional<TimePoint> long_at;    // when it becomes a long wait
  std::optional<TimePoint> next_exam;  // of its process, and of those it waits for
  Duration exam_pause{};
  bool examined = false;        // looked at once; what its process had then, it could not join
  FileNumber number = 0;        // of the file; known once it is examined
  std::vector<FileNumber> has;  // what its process had at the last look, in order
  bool suspected = false;       // the waiter has been told of a possible deadlock
};

using WaitPtr = std::shared_ptr<Wait>;

}  // namespace flockfs
