#include "lock/lock_table.h"

#include <algorithm>
#include <utility>

namespace flockfs {

namespace {

constexpr std::size_t kMostSpareRecords = 256;
constexpr std::size_t kMostSpareHolders = 16;  // room kept in a spare record

}  // namespace

bool LockRecord::compatible(LockMode mode) const {
  return mode == LockMode::kShared ? exclusive_ == 0 : holders_.empty();
}

bool LockRecord::admits(LockMode mode) const {
  return queue_.empty() && compatible(mode) && yield_ == YieldPhase::kNone && worker == Worker::kNone;
}

const QueuedRequest* LockRecord::grantable() const {
  if (queue_.empty() || yield_ != YieldPhase::kNone || !compatible(queue_.front().mode)) return nullptr;
  return &queue_.front();
}

bool LockRecord::idle() const {
  return holders_.empty() && queue_.empty() && worker == Worker::kNone && yield_ == YieldPhase::kNone;
}

void LockRecord::add_holder(const Holder& holder) {
  holders_.push_back(holder);
  if (holder.mode == LockMode::kExclusive) ++exclusive_;
}

void LockRecord::confirm_holder(LockId id, TimePoint since) {
  // The one that was added last, mostly.
  const auto holder = std::find_if(holders_.rbegin(), holders_.rend(), [id](const Holder& h) { return h.id == id; });
  if (holder == holders_.rend()) return;
  holder->tentative = false;
  holder->since = since;
}

void LockRecord::remove_holder(LockId id) {
  const auto holder = std::find_if(holders_.begin(), holders_.end(), [id](const Holder& h) { return h.id == id; });
  if (holder == holders_.end()) return;
  if (holder->mode == LockMode::kExclusive) --exclusive_;
  *holder = holders_.back();
  holders_.pop_back();
  if (never_drained_ == id) never_drained_ = 0;
}

const Holder* LockRecord::oldest_holder() const {
  const Holder* oldest = nullptr;
  for (const Holder& holder : holders_) {
    if (!holder.tentative && (oldest == nullptr || holder.id < oldest->id)) oldest = &holder;
  }
  return oldest;
}

bool LockRecord::holds(LockId id) const {
  return std::any_of(holders_.begin(), holders_.end(), [id](const Holder& h) { return h.id == id; });
}

LockRecord::Queue::iterator LockRecord::enqueue(const QueuedRequest& request) {
  return queue_.insert(queue_.end(), request);
}

void LockRecord::dequeue(Queue::iterator place) { queue_.erase(place); }

bool LockRecord::wants_check(TimePoint now, const FairnessTimes& times) const {
  return now - busy_since_ > times.busy_before_check && now >= next_check_ && !check_pending_ &&
         yield_ == YieldPhase::kNone && never_drained_ == 0;
}

void LockRecord::checked(TimePoint now, const FairnessTimes& times, bool somebody_waits_outside) {
  check_pending_ = false;
  next_check_ = now + times.between_checks;
  if (!somebody_waits_outside || yield_ != YieldPhase::kNone) return;
  yield_ = YieldPhase::kDraining;
  yield_until_ = now + times.longest_drain;
  (void)drained(now, times);
}

bool LockRecord::drained(TimePoint now, const FairnessTimes& times) {
  if (yield_ != YieldPhase::kDraining || !holders_.empty()) return false;
  yield_ = YieldPhase::kQuiet;
  yield_until_ = now + times.quiet;
  return true;
}

void LockRecord::end_yield(TimePoint now) {
  if (yield_ == YieldPhase::kDraining) {
    const Holder* oldest = oldest_holder();
    if (oldest != nullptr) never_drained_ = oldest->id;
  }
  yield_ = YieldPhase::kNone;
  busy_since_ = now;
}

void LockRecord::recycle(TimePoint now, TimePoint busy_since) {
  busy_since_ = busy_since;
  next_check_ = now;
  check_pending_ = false;
  never_drained_ = 0;
  poll_at.reset();
  poll_pause = {};
}

LockRecord* LockTable::find(const FileId& file) {
  const auto found = records_.find(file);
  return found == records_.end() ? nullptr : &found->second;
}

const LockRecord* LockTable::find(const FileId& file) const {
  const auto found = records_.find(file);
  return found == records_.end() ? nullptr : &found->second;
}

LockRecord& LockTable::find_or_add(const FileId& file, TimePoint now) {
  if (LockRecord* found = find(file)) return *found;
  LockRecord* record = nullptr;
  if (spare_.empty()) {
    record = &records_[file];
  } else {
    Records::node_type node = std::move(spare_.back());
    spare_.pop_back();
    node.key() = file;
    record = &records_.insert(std::move(node)).position->second;
  }
  const Trace& trace = trace_of(file);
  const bool gapless = trace.file == file && now - trace.idle_since < times.shortest_gap;
  record->recycle(now, gapless ? trace.busy_since : now);
  return *record;
}

void LockTable::drop_if_idle(const FileId& file, TimePoint now) {
  const auto found = records_.find(file);
  if (found == records_.end() || !found->second.idle()) return;
  trace_of(file) = {file, found->second.busy_since_, now};
  if (spare_.size() >= kMostSpareRecords || found->second.holders_.capacity() > kMostSpareHolders) {
    records_.erase(found);
    return;
  }
  spare_.push_back(records_.extract(found));
}

}  // namespace flockfs
