#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <list>
#include <optional>
#include <unordered_map>
#include <vector>

#include "base/clock.h"
#include "lock/file_id.h"
#include "lock/lock_mode.h"

namespace flockfs {

// Who holds and who waits for each file: the rules alone. No threads, no system calls, no clock; not synchronised (the
// engine guards it with its mutex).

using LockId = std::uint64_t;  // 0 is nobody; later ones are greater

struct Holder {
  LockId id = 0;
  LockMode mode = LockMode::kShared;
  bool tentative = false;  // the kernel is being asked; counts as held until the answer is in
  Owner owner;
  TimePoint since;
  int fd = -1;  // open for as long as the holder is in the table
};

struct QueuedRequest {
  std::uint64_t wait_id = 0;
  LockMode mode = LockMode::kShared;
  Owner owner;
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
  // The first in the queue, if it may try now.
  [[nodiscard]] const QueuedRequest* grantable() const;
  [[nodiscard]] bool compatible(LockMode mode) const;
  [[nodiscard]] bool idle() const;

  void add_holder(const Holder& holder);
  void confirm_holder(LockId id, TimePoint since);  // the kernel granted it
  void remove_holder(LockId id);
  [[nodiscard]] const std::vector<Holder>& holders() const { return holders_; }
  [[nodiscard]] const Holder* oldest_holder() const;  // of the confirmed ones
  [[nodiscard]] bool holds(LockId id) const;

  Queue::iterator enqueue(const QueuedRequest& request);
  void dequeue(Queue::iterator place);
  [[nodiscard]] const Queue& queue() const { return queue_; }

  // At most one thread asks the kernel on behalf of the queue (kPumping), or waits in it (kBlocked) and pumps
  // afterwards.
  enum class Worker : std::uint8_t { kNone, kPumping, kBlocked };
  Worker worker = Worker::kNone;

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

  std::vector<Holder> holders_;
  std::size_t exclusive_ = 0;  // of holders_
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
