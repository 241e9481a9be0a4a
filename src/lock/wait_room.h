#pragma once

#include <memory>
#include <optional>
#include <set>
#include <thread>
#include <unordered_map>
#include <unordered_set>
#include <utility>
#include <vector>

#include "base/mutex.h"
#include "lock/lock_engine.h"
#include "lock/lock_table.h"

namespace flockfs {

// One parked request. Shared by the room and by the thread that asks the kernel for it, so that the descriptor stays
// open until that thread has let go of it, however the wait ends.
struct Wait {
  enum class State : std::uint8_t {
    kParking,  // on_parked() is still running
    kQueued,
    kEnded,  // whoever made it so tells the outcome
  };

  Wait(WaitId wait_id, LockRequest wanted, std::shared_ptr<LockWaiter> who, TimePoint now, BlockingPool& pool)
      : id(wait_id), request(std::move(wanted)), since(now), waiter(std::move(who)), point(pool) {}

  // Constant; but request.fd is taken by whoever tells that the lock is granted.
  const WaitId id;
  LockRequest request;
  const TimePoint since;

  std::shared_ptr<LockWaiter> waiter;  // park()'s until queued, then that of whoever tells the outcome
  InterruptiblePoint point;            // thread-safe

  // Guarded by the room's mutex.
  State state = State::kParking;
  std::optional<WaitEnd> early_end;  // ended while parking: park() tells it
  bool blocked_for = false;          // a thread of the pool waits in the kernel for it
  LockRecord::Queue::iterator place;
  std::optional<TimePoint> next_look;  // at the thread's signals
  std::optional<TimePoint> long_at;    // when it becomes a long wait
};

// The lock engine: LockTable's rules carried out by FileLocker, with a keeper thread for whatever has a time.
//
// A request asks the kernel only when the table admits it, without the mutex, as a tentative holder. What the kernel
// holds for the mirror is never more than what the table shows: a lock is given back before its holder is removed.
class WaitRoom final : public LockEngine {
 public:
  enum class Keeper : std::uint8_t {
    kThread,
    kNone,  // tests call tick() in its place
  };

  explicit WaitRoom(const LockEngineConfig& config, Keeper keeper = Keeper::kThread);
  ~WaitRoom() override;

  std::optional<LockOutcome> try_acquire(LockRequest& request) override EXCLUDES(mutex_);
  void park(LockRequest request, std::shared_ptr<LockWaiter> waiter) override EXCLUDES(mutex_);
  [[nodiscard]] std::vector<Blocker> blockers(const FileId& file, LockMode mode) const override EXCLUDES(mutex_);
  void interrupt(WaitId id) override EXCLUDES(mutex_);
  void stop_waits() override EXCLUDES(mutex_);
  void end() override EXCLUDES(mutex_);
  [[nodiscard]] Stats stats() const override EXCLUDES(mutex_);

  // Does everything whose time has come. Any thread.
  void tick() EXCLUDES(mutex_);
  // When tick() is needed next; none: not before something else happens.
  [[nodiscard]] std::optional<TimePoint> next_tick() const EXCLUDES(mutex_);

 private:
  using WaitPtr = std::shared_ptr<Wait>;

  struct Ended {
    WaitPtr wait;
    LockOutcome outcome;
  };
  // What is to be done once the mutex is free: the results of a decision under it.
  struct Aftermath {
    std::vector<Ended> ended;          // to be told
    std::vector<WaitPtr> interrupted;  // their threads block for nobody
    std::vector<FileId> pump;          // somebody may be grantable now
    std::vector<WaitPtr> let_go;       // maybe the last reference, whose end closes a file
  };

  void release(const FileId& file, std::uint64_t id, UniqueFd fd) override EXCLUDES(mutex_);

  // wait_room.cc: the life of a wait.
  bool enqueue(const WaitPtr& wait, Aftermath& after) REQUIRES(mutex_);
  void end_wait(const WaitPtr& wait, WaitEnd end, int error, Aftermath& after) REQUIRES(mutex_);
  void cancel(const WaitPtr& wait, WaitEnd end, Aftermath& after) REQUIRES(mutex_);
  void grant(const WaitPtr& wait, LockRecord& record, LockId id, Aftermath& after) REQUIRES(mutex_);
  void forget(const WaitPtr& wait) REQUIRES(mutex_);
  void see_to(Aftermath after) EXCLUDES(mutex_);
  static void tell(std::vector<Ended> ended);

  // wait_room_pump.cc: asking the kernel for the queue.
  enum class Swept : std::uint8_t { kDone, kBlockedOutside };
  void pump(const FileId& file) EXCLUDES(mutex_);
  Swept sweep(LockRecord& record, Aftermath& after) REQUIRES(mutex_);
  Swept try_head(LockRecord& record, Aftermath& after) REQUIRES(mutex_);
  void hand_to_pool(const FileId& file) EXCLUDES(mutex_);
  void block_for(const FileId& file) EXCLUDES(mutex_);
  bool block_once(const FileId& file, Aftermath& after) EXCLUDES(mutex_);
  int wait_in_kernel(Wait& wait) EXCLUDES(mutex_);
  void give_back(const Wait& wait) REQUIRES(mutex_);
  void settle(const WaitPtr& wait, LockRecord& record, int error, Aftermath& after) REQUIRES(mutex_);
  Holder holder_for(const Wait& wait) REQUIRES(mutex_);
  void drop_holder(const FileId& file, LockRecord& record, LockId id) REQUIRES(mutex_);

  // wait_room_keeper.cc: whatever has a time.
  void keep() EXCLUDES(mutex_);
  void wake_keeper(TimePoint at) REQUIRES(mutex_);
  std::optional<TimePoint> next_tick_locked() const REQUIRES(mutex_);
  void end_overdue(TimePoint now, Aftermath& after) REQUIRES(mutex_);
  std::vector<WaitPtr> take_due_looks(TimePoint now) REQUIRES(mutex_);
  void look_at_signals(const WaitPtr& wait) EXCLUDES(mutex_);
  void attend(const FileId& file, TimePoint at) REQUIRES(mutex_);
  void attend_records(TimePoint now, Aftermath& after) REQUIRES(mutex_);
  std::optional<TimePoint> attend_record(const FileId& file, TimePoint now, Aftermath& after) REQUIRES(mutex_);

  // wait_room_long.cc: who stands in the way.
  void tell_long_waits() EXCLUDES(mutex_);

  // wait_room_fairness.cc: letting those outside pass.
  void note_use(const FileId& file, LockRecord& record, TimePoint now) REQUIRES(mutex_);
  void check_fairness() EXCLUDES(mutex_);
  std::unordered_set<FileId, FileIdHash> files_waited_for_outside() EXCLUDES(mutex_);
  void learn_device(const FileId& file) EXCLUDES(mutex_);
  [[nodiscard]] FileId listed(const FileId& file) const REQUIRES(mutex_);

  // Constant after construction.
  FileLocker& locker_;
  SignalProbe& signals_;
  ForeignLocks& foreign_;
  Clock& clock_;
  BlockingPool& pool_;
  const Duration long_wait_;

  // After those of the mirror, before the pool's. No system call and no call of a LockWaiter under it.
  mutable Mutex mutex_;
  LockTable table_ GUARDED_BY(mutex_);
  std::uint64_t last_id_ GUARDED_BY(mutex_) = 0;
  std::size_t held_ GUARDED_BY(mutex_) = 0;
  std::unordered_map<WaitId, WaitPtr> waits_ GUARDED_BY(mutex_);
  bool stopped_ GUARDED_BY(mutex_) = false;
  unsigned jobs_ GUARDED_BY(mutex_) = 0;  // of ours in the pool
  CondVar no_jobs_;

  // The keeper's.
  std::set<std::pair<TimePoint, WaitId>> deadlines_ GUARDED_BY(mutex_);
  std::set<std::pair<TimePoint, WaitId>> looks_ GUARDED_BY(mutex_);
  std::set<std::pair<TimePoint, WaitId>> long_waits_ GUARDED_BY(mutex_);
  std::unordered_set<FileId, FileIdHash> attended_
      GUARDED_BY(mutex_);                             // polled or yielding; may hold some that are over
  TimePoint next_attention_ GUARDED_BY(mutex_);       // valid if any are attended
  std::vector<FileId> unchecked_ GUARDED_BY(mutex_);  // records whose fairness is to be checked
  TimePoint next_check_ GUARDED_BY(mutex_);
  std::unordered_map<dev_t, dev_t> listed_devices_ GUARDED_BY(mutex_);   // st_dev to the list's
  TimePoint keeper_sleeps_until_ GUARDED_BY(mutex_) = TimePoint::min();  // min: it is awake
  bool keeper_ends_ GUARDED_BY(mutex_) = false;
  CondVar keeper_wakes_;
  std::thread keeper_;
};

}  // namespace flockfs
