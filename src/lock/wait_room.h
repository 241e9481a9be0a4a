#pragma once

#include <map>
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
#include "lock/wait.h"
#include "lock/wait_graph.h"

namespace flockfs {

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
  std::optional<LockOutcome> try_join(LockRequest& request) override EXCLUDES(mutex_);
  void park(LockRequest request, std::shared_ptr<LockWaiter> waiter) override EXCLUDES(mutex_);
  [[nodiscard]] std::vector<Blocker> blockers(const FileId& file, LockMode mode) const override EXCLUDES(mutex_);
  void interrupt(WaitId id) override EXCLUDES(mutex_);
  FlockOutcome try_flock(const Hold& hold, LockMode mode) override EXCLUDES(mutex_);
  [[nodiscard]] std::vector<Blocker> flock_blockers(const Hold& hold, LockMode mode) override EXCLUDES(mutex_);
  void unlock_flock(const Hold& hold) override EXCLUDES(mutex_);
  void park_flock(const Hold& hold, LockMode mode, pid_t process, pid_t tid,
                  std::shared_ptr<LockWaiter> waiter) override EXCLUDES(mutex_);
  void stop_waits() override EXCLUDES(mutex_);
  void end() override EXCLUDES(mutex_);
  [[nodiscard]] Stats stats() const override EXCLUDES(mutex_);
  [[nodiscard]] LockSnapshot snapshot() override EXCLUDES(mutex_);

  // Does everything whose time has come. Any thread.
  void tick() EXCLUDES(mutex_);
  // When tick() is needed next; none: not before something else happens.
  [[nodiscard]] std::optional<TimePoint> next_tick() const EXCLUDES(mutex_);

 private:
  struct Ended {
    WaitPtr wait;
    LockOutcome outcome;
    bool waited = false;  // and the waiter does not know yet
  };
  struct HolderOf {
    FileId file;
    LockId holder;
  };
  // What is to be done once the mutex is free: the results of a decision under it.
  struct Aftermath {
    std::vector<WaitPtr> interrupted;  // their threads block for nobody
    std::vector<HolderOf> finish;      // nobody is left in them: to be unlocked and dropped
    std::vector<HolderOf> take_back;   // shared locks that were given up in vain
    std::vector<HolderOf> downgrade;   // to be made shared again
    std::vector<FileId> pump_first;    // somebody may be grantable now, and is to be before anything is told
    std::vector<Ended> ended;          // to be told
    std::vector<WaitPtr> turns;        // flock(2) calls whose turn may have come
    std::vector<FileId> pump;          // somebody may be grantable now
    std::vector<WaitPtr> let_go;       // maybe the last reference, whose end closes a file
    std::vector<UniqueFd> closed;      // of holders that have gone
    bool examine = false;              // there are waits to be examined
  };

  void release(const FileId& file, std::uint64_t id, UniqueFd fd) override EXCLUDES(mutex_);
  bool closed(const FileId& file, std::uint64_t id) override EXCLUDES(mutex_);

  // wait_room.cc: the life of a wait.
  bool enqueue(const WaitPtr& wait, Aftermath& after) REQUIRES(mutex_);
  void begin_waiting(const WaitPtr& wait) EXCLUDES(mutex_);
  void say_that_it_waits(const WaitPtr& wait) EXCLUDES(mutex_);
  LockOutcome& end_wait(const WaitPtr& wait, WaitEnd end, int error, Aftermath& after) REQUIRES(mutex_);
  void cancel(const WaitPtr& wait, WaitEnd end, Aftermath& after) REQUIRES(mutex_);
  void grant(const WaitPtr& wait, LockRecord& record, LockId id, Aftermath& after) REQUIRES(mutex_);
  void forget(const WaitPtr& wait) REQUIRES(mutex_);
  void note_waiting(const Wait& wait) REQUIRES(mutex_);
  void see_to(Aftermath after) EXCLUDES(mutex_);
  static void tell(std::vector<Ended> ended);

  // wait_room_pump.cc: asking the kernel for the queue.
  // How the kernel is asked for a wait: as a holder that is in the table meanwhile.
  struct Ask {
    LockId holder;
    FileLocker* locker;
    int fd;
    LockMode mode;
  };
  enum class Swept : std::uint8_t {
    kDone,
    kBlockedOutside,
    kPolled,  // the keeper tries again
  };
  void pump(const FileId& file) EXCLUDES(mutex_);
  Swept sweep(LockRecord& record, Aftermath& after) REQUIRES(mutex_);
  Swept try_head(LockRecord& record, Aftermath& after) REQUIRES(mutex_);
  void hand_to_pool(const FileId& file) EXCLUDES(mutex_);
  void block_for(const FileId& file) EXCLUDES(mutex_);
  bool block_once(const FileId& file, Aftermath& after) EXCLUDES(mutex_);
  int wait_in_kernel(Wait& wait, const Ask& ask) EXCLUDES(mutex_);
  void wake_blocked(const LockRecord& record, Aftermath& after) REQUIRES(mutex_);
  Swept fail(const WaitPtr& wait, LockRecord& record, int error, Aftermath& after) REQUIRES(mutex_);
  Ask ask_for(const Wait& wait, LockRecord& record) REQUIRES(mutex_);
  void withdraw(const Ask& ask, const Wait& wait, LockRecord& record, Aftermath& after) REQUIRES(mutex_);
  void give_back(const Ask& ask) REQUIRES(mutex_);
  Swept try_upgrade(const WaitPtr& wait, LockRecord& record, Aftermath& after) REQUIRES(mutex_);
  void settle(const WaitPtr& wait, LockRecord& record, const Ask& ask, int error, Aftermath& after) REQUIRES(mutex_);

  // wait_room_holders.cc: holders and their members.
  static Member member_for(LockId id, const LockRequest& request);
  static Holder new_holder(LockId id, const LockRequest& request, TimePoint now);
  void drop_holder(const FileId& file, LockRecord& record, LockId id, Aftermath& after) REQUIRES(mutex_);
  void finish_holder(const HolderOf& which) EXCLUDES(mutex_);
  void begin_busy(Holder& holder) REQUIRES(mutex_);
  void end_busy(const FileId& file, LockRecord& record, LockId id, Aftermath& after) REQUIRES(mutex_);
  void review_turns(const LockRecord& record, Aftermath& after) REQUIRES(mutex_);
  void review(const FileId& file, LockRecord& record, Holder& holder, Aftermath& after) REQUIRES(mutex_);
  void downgrade(const HolderOf& which) EXCLUDES(mutex_);
  void take_back(const HolderOf& which) EXCLUDES(mutex_);
  void take_turns(const std::vector<WaitPtr>& turns) EXCLUDES(mutex_);
  void take_turn(const WaitPtr& wait) EXCLUDES(mutex_);
  void cancel_regains(LockRecord& record, LockId holder, Aftermath& after) REQUIRES(mutex_);
  void regain(const FileId& file, LockRecord& record, const Holder& holder, Aftermath& after) REQUIRES(mutex_);

  // wait_room_join.cc: sharing what a process has already.
  Holder* own_holder(LockRecord& record, pid_t process, const Holding& holding) REQUIRES(mutex_);
  [[nodiscard]] static bool shares_with_all(const LockRecord& record, const LockRequest& request,
                                            const Holding& holding);
  [[nodiscard]] static bool joins_at_once(const Holder& holder, LockMode mode, FileLocker& locker);
  bool join(const WaitPtr& wait, const Holding& holding, Aftermath& after) REQUIRES(mutex_);
  [[nodiscard]] std::uint64_t last_change(const FileId& file) const EXCLUDES(mutex_);
  Hold add_member(LockRecord& record, Holder& holder, LockRequest& request) REQUIRES(mutex_);
  std::vector<int> merge(LockRecord& record, LockId into, pid_t process) REQUIRES(mutex_);
  Conversion upgrade(const FileId& file, LockRecord& record, LockId id, pid_t process, int fresh, Aftermath& after)
      REQUIRES(mutex_);
  void made_exclusive(Holder& holder, int fresh) REQUIRES(mutex_);
  LockId upgradable(LockRecord& record, pid_t process, LockId wanted) REQUIRES(mutex_);

  // wait_room_examine.cc: looking at the processes that wait.
  bool worth_examining(const Wait& wait) REQUIRES(mutex_);
  void schedule_exam(const WaitPtr& wait, TimePoint at) REQUIRES(mutex_);
  void examine_again(LockRecord& record, pid_t process, Aftermath& after) REQUIRES(mutex_);
  void start_examining() EXCLUDES(mutex_);
  void examine_due() EXCLUDES(mutex_);
  void examine(const WaitPtr& wait) EXCLUDES(mutex_);
  void note_files_of(Wait& wait, std::vector<FileNumber> has) REQUIRES(mutex_);
  void examine_heirs(LockRecord& record, Aftermath& after) REQUIRES(mutex_);
  bool waits_for_own_thread(const Wait& wait, const Holding& holding) REQUIRES(mutex_);

  // wait_room_circles.cc: those they wait for.
  void look_for_deadlock(const WaitPtr& wait) EXCLUDES(mutex_);
  bool may_be_stuck(const Wait& wait) REQUIRES(mutex_);
  [[nodiscard]] bool may_join(const Wait& wait, const std::set<pid_t>& openers) const REQUIRES(mutex_);
  std::optional<std::size_t> draw_graph(const Wait& start, WaitGraph& graph) REQUIRES(mutex_);
  void add_heirs(const LockRecord& record, const Wait& wait, WaitGraph::Node& node) REQUIRES(mutex_);
  void add_turns(const LockRecord& record, WaitGraph& graph) REQUIRES(mutex_);
  bool learn(const WaitGraph& graph, const WaitCircle& circle, WaitFacts& facts) EXCLUDES(mutex_);
  bool holds_for_sure(pid_t process, const FileId& file) EXCLUDES(mutex_);
  enum class Refusal : std::uint8_t { kDone, kChanged, kNoOpen };
  Refusal refuse_one_of(const WaitGraph& graph, const WaitCircle& circle) EXCLUDES(mutex_);

  // wait_room_flock.cc: flock(2) of clients.
  [[nodiscard]] pid_t sharer_of(const Holder& holder) const;
  void start_flock(const WaitPtr& wait, Aftermath& after) REQUIRES(mutex_);
  void give_up_for(const WaitPtr& wait, LockRecord& record, LockId id, Aftermath& after) REQUIRES(mutex_);
  void grant_flock(const WaitPtr& wait, LockRecord& record, Holder& holder, Aftermath& after) REQUIRES(mutex_);

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
  void hold_off(const WaitPtr& wait, LockRecord& record) REQUIRES(mutex_);
  void look_outside() EXCLUDES(mutex_);

  // wait_room_long.cc: who stands in the way.
  void tell_long_waits() EXCLUDES(mutex_);

  // wait_room_snapshot.cc: all of it, for somebody to look at.
  struct Seen {
    FileId listed;
    WaitingLock lock;
    TimePoint since;
    std::optional<Blocker> ahead;  // in the queue, and in the way
  };
  using AllSeen = std::unordered_map<WaitId, Seen>;
  void look_at(const FileId& file, const LockRecord& record, LockSnapshot& to, AllSeen& waiting) const REQUIRES(mutex_);
  void look_at_waits(const FileId& file, const LockRecord& record, AllSeen& waiting) const REQUIRES(mutex_);
  [[nodiscard]] const Wait* client_wait(WaitId id) const REQUIRES(mutex_);
  void add_those_outside(AllSeen& waiting) EXCLUDES(mutex_);

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
  HolderProbe& holders_;
  Clock& clock_;
  BlockingPool& pool_;
  const Duration long_wait_;
  const Reopen reopen_;

  // After those of the mirror, before the pool's. No system call and no call of a LockWaiter under it.
  mutable Mutex mutex_;
  LockTable table_ GUARDED_BY(mutex_);
  std::uint64_t last_id_ GUARDED_BY(mutex_) = 0;
  std::size_t held_ GUARDED_BY(mutex_) = 0;  // open file descriptions
  // Descriptors whose Hold has gone while the holder needs them.
  std::unordered_map<LockId, std::vector<UniqueFd>> kept_ GUARDED_BY(mutex_);
  std::unordered_map<WaitId, WaitPtr> waits_ GUARDED_BY(mutex_);
  std::unordered_map<pid_t, unsigned> waiting_ GUARDED_BY(mutex_);  // processes that wait, and how often
  // Which of them have which files: of all waits, Wait::has.
  std::unordered_map<FileNumber, std::map<pid_t, unsigned>> have_ GUARDED_BY(mutex_);
  bool stopped_ GUARDED_BY(mutex_) = false;
  unsigned jobs_ GUARDED_BY(mutex_) = 0;  // of ours in the pool
  CondVar no_jobs_;

  // The keeper's.
  std::set<std::pair<TimePoint, WaitId>> deadlines_ GUARDED_BY(mutex_);
  std::set<std::pair<TimePoint, WaitId>> looks_ GUARDED_BY(mutex_);
  std::set<std::pair<TimePoint, WaitId>> long_waits_ GUARDED_BY(mutex_);
  std::set<std::pair<TimePoint, WaitId>> exams_ GUARDED_BY(mutex_);
  bool examining_ GUARDED_BY(mutex_) = false;
  std::vector<FileId> held_off_ GUARDED_BY(mutex_);  // upgrades that wait for somebody outside: to be looked at now
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
