#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <list>
#include <optional>
#include <unordered_map>
#include <utility>
#include <vector>

#include "base/clock.h"
#include "lock/file_id.h"
#include "lock/lock_mode.h"

namespace flockfs {

// Who holds and who waits for each file: the rules alone. No threads, no system calls, no clock; not synchronised (the
// engine guards it with its mutex).

using LockId = std::uint64_t;  // 0 is nobody; later ones are greater

// One open file description for which a lock is held.
struct Member {
  LockId id = 0;
  Owner owner;                      // who opened it
  pid_t tid = 0;                    // the thread that did
  bool closed = false;              // its last descriptor is; a mapping may be left
  std::optional<LockMode> flocked;  // what its application has asked for by flock(2) itself
};

// A lock and those who share it: opens of one process join the lock that it has already (DESIGN 1.6).
struct Holder {
  enum class State : std::uint8_t {
    kAsked,  // the kernel is being asked; counts as held until the answer is in
    kHeld,
    kGivenUp,  // not held: its application waits in flock(2) for more, or a foreign writer slipped in
  };

  LockId id = 0;
  LockMode mode = LockMode::kShared;  // what the kernel holds
  State state = State::kHeld;
  LockMode opened = LockMode::kShared;  // what its members' opens need, for as long as one of them is left
  bool alone = false;                   // nobody joins it
  bool all_lost = false;                // given up in all its parts, not only the flock(2)
  bool downgrade_failed = false;        // by the source's file system; not tried again until its flock(2) calls change
  bool busy = false;  // a thread asks the kernel about its descriptors: they stay open, and nobody else asks
  TimePoint since;
  int fd = -1;            // carries the lock; open for as long as the holder is in the table
  int exclusive_fd = -1;  // carries it too, where an upgrade needs another one
  Member first;
  std::vector<Member> more;  // so that a lock with one member allocates nothing
  bool empty = false;        // the last member has gone, but the holder is busy

  [[nodiscard]] std::size_t members() const { return empty ? 0 : 1 + more.size(); }
  template <typename Visit>
  void for_each_member(Visit visit) const {
    if (empty) return;
    visit(first);
    for (const Member& one : more) visit(one);
  }
  [[nodiscard]] Member* member(LockId member_id);
  void add_member(const Member& added);
  void remove_member(LockId member_id);
  // Whether this process opened one of its members.
  [[nodiscard]] bool belongs_to(pid_t process) const;
  // What the kernel must hold for all members, by their opens and their flock(2) calls.
  [[nodiscard]] LockMode needed() const;
  // Whether another member's flock(2) stands in the way of this one's: they exclude one another as anywhere.
  [[nodiscard]] bool flock_conflicts(LockId member_id, LockMode wanted) const;
};

// What somebody in the queue wants.
enum class Want : std::uint8_t {
  kLock,     // a lock of its own
  kUpgrade,  // a shared lock that it has, made exclusive; it is kept meanwhile
  kRegain,   // a lock that was given up
};

struct QueuedRequest {
  std::uint64_t wait_id = 0;
  LockMode mode = LockMode::kShared;
  Owner owner{};
  Want want = Want::kLock;
  LockId holder = 0;      // whose lock that is, for kUpgrade and kRegain
  bool held_off = false;  // for kUpgrade: somebody outside has the file
};

// Letting somebody outside the mirror pass: overlapping clients of ours would keep the file locked for ever.
enum class YieldPhase : std::uint8_t {
  kNone,
  kDraining,  // new requests queue; those who hold finish
  kQuiet,     // nobody of ours holds; the one outside is waking up
};

struct FairnessTimes {
  Duration busy_before_check =
      std::chrono::milliseconds(200);  // in use so long without a gap: look for waiters outside
  // Shorter gaps count for nothing: a waiter of flock(2) whom an unlock has woken needs a moment to try again.
  Duration shortest_gap = std::chrono::milliseconds(5);
  Duration between_checks = std::chrono::milliseconds(50);
  Duration longest_drain = std::chrono::seconds(1);
  // A woken waiter of flock(2) is in no list until it has tried again. On a busy machine that takes milliseconds; one
  // that is too late stands there again for the next check.
  Duration quiet = std::chrono::milliseconds(8);
};

// One file. Exists while anybody holds it, waits for it, or is being asked about.
class LockRecord {
 public:
  using Queue = std::list<QueuedRequest>;

  // Whether a new request may try at once: it would pass nobody.
  [[nodiscard]] bool admits(LockMode mode) const;
  // The upgrade that waits for somebody outside, if there is one. It may have a lock that is to be had again before it.
  [[nodiscard]] const QueuedRequest* held_off() const;
  // The first in the queue, if it may try now.
  [[nodiscard]] const QueuedRequest* grantable() const;
  [[nodiscard]] bool compatible(LockMode mode) const;
  [[nodiscard]] bool idle() const;

  void add_holder(const Holder& holder);
  void confirm_holder(LockId id, TimePoint since);  // the kernel granted it
  void remove_holder(LockId id);
  void give_up(Holder& holder);
  void take_up(Holder& holder, LockMode mode);  // as kAsked
  void set_mode(Holder& holder, LockMode mode);
  // Pointers into holders() are good until a holder is added or removed.
  [[nodiscard]] Holder* holder(LockId id);
  [[nodiscard]] Holder* holder_of(LockId member_id);
  // Whether another flock(2) of the same process, of whichever of its holders, stands in the way.
  [[nodiscard]] bool flock_conflicts(const Holder& holder, LockId member_id, LockMode wanted) const;
  // Whether whoever holds the lock now belongs to this process, or is the holder `also`.
  [[nodiscard]] bool held_only_by(pid_t process, LockId also) const;
  [[nodiscard]] const std::vector<Holder>& holders() const { return holders_; }
  [[nodiscard]] const Holder* oldest_holder() const;  // of the confirmed ones
  [[nodiscard]] bool holds(LockId id) const;
  // Members that this process opened and whose descriptors it has not closed, as far as is known; those of which only
  // mappings are left.
  [[nodiscard]] std::size_t open_members_of(pid_t process) const;
  [[nodiscard]] std::size_t closed_members_of(pid_t process) const;

  Queue::iterator enqueue(const QueuedRequest& request);
  // Before those who wait for what the request belongs to: an upgrade, and a shared lock that is to be had again.
  Queue::iterator enqueue_first(const QueuedRequest& request);
  void dequeue(Queue::iterator place);
  [[nodiscard]] const Queue& queue() const { return queue_; }

  // At most one thread asks the kernel on behalf of the queue (kPumping), or waits in it (kBlocked) and pumps
  // afterwards.
  enum class Worker : std::uint8_t { kNone, kPumping, kBlocked };
  Worker worker = Worker::kNone;

  // Changes whenever somebody gets a part in a lock or loses one.
  std::uint64_t changed_at = 0;

  // Waits of flock(2) calls for another one of the same process.
  std::vector<std::uint64_t> turns;

  // No thread could be had to wait in the kernel: the keeper tries again at this time.
  std::optional<TimePoint> poll_at;
  Duration poll_pause{};

  // Fairness towards those outside. A check is due when somebody is let in although the file has long been busy.
  [[nodiscard]] bool wants_check(TimePoint now, const FairnessTimes& times) const;
  void check_requested() { check_pending_ = true; }
  void checked(TimePoint now, const FairnessTimes& times, bool somebody_waits_outside);
  [[nodiscard]] YieldPhase yield() const { return yield_; }
  [[nodiscard]] TimePoint yield_until() const { return yield_until_; }  // REQUIRES: yield() != kNone
  // The holders have gone, if they have: the quiet time begins. True if it did.
  bool drained(TimePoint now, const FairnessTimes& times);
  void end_yield(TimePoint now);

 private:
  friend class LockTable;
  void recycle(TimePoint now, TimePoint busy_since);

  [[nodiscard]] bool unheld() const { return active_ == 0; }
  [[nodiscard]] bool is_busy(LockId id) const;

  std::vector<Holder> holders_;
  std::size_t active_ = 0;     // of holders_: those that have not given up
  std::size_t exclusive_ = 0;  // of those
  Queue queue_;
  TimePoint busy_since_;
  TimePoint next_check_;
  bool check_pending_ = false;
  YieldPhase yield_ = YieldPhase::kNone;
  TimePoint yield_until_;
  LockId never_drained_ = 0;  // the holder for whom a yield was given up: none more while it holds
};

// The records by file. Records of files that nobody uses any more are kept for the next file, so that opening and
// closing allocates nothing. A record's address is stable until it is dropped.
class LockTable {
 public:
  [[nodiscard]] LockRecord* find(const FileId& file);
  [[nodiscard]] const LockRecord* find(const FileId& file) const;
  LockRecord& find_or_add(const FileId& file, TimePoint now);
  void drop_if_idle(const FileId& file, TimePoint now);
  [[nodiscard]] std::size_t size() const { return records_.size(); }

  // A look at all records, in steps between which the table may change: what is there all the time is shown at least
  // once, but some may be shown more than once.
  struct Walk {
    std::size_t bucket = 0;
    std::size_t buckets = 0;
    std::vector<std::pair<FileId, const LockRecord*>> step;  // what was shown last
  };
  // Shows the next ones, `most` or a few more; false if all have been shown.
  bool walk(Walk& walk, std::size_t most) const;

  const FairnessTimes times{};

 private:
  // A file that was dropped a moment ago: if it comes back at once, it has been busy all the time.
  struct Trace {
    FileId file;
    TimePoint busy_since;
    TimePoint idle_since;
  };
  Trace& trace_of(const FileId& file) { return traces_[FileIdHash{}(file) % traces_.size()]; }

  using Records = std::unordered_map<FileId, LockRecord, FileIdHash>;
  Records records_;
  std::vector<Records::node_type> spare_;
  std::array<Trace, 256> traces_{};  // by hash; a collision only forgets
};

}  // namespace flockfs
