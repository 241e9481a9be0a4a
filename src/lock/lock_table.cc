#include "lock/lock_table.h"

#include <algorithm>
#include <utility>

namespace flockfs {

namespace {

constexpr std::size_t kMostSpareRecords = 256;
constexpr std::size_t kMostSpareHolders = 16;  // room kept in a spare record
constexpr std::size_t kEmptyBuckets = 16;      // that cost as much as a record, in a walk

}  // namespace

Member* Holder::member(LockId member_id) {
  if (empty) return nullptr;
  if (first.id == member_id) return &first;
  const auto found = std::find_if(more.begin(), more.end(), [&](const Member& one) { return one.id == member_id; });
  return found == more.end() ? nullptr : &*found;
}

void Holder::add_member(const Member& added) {
  if (empty) {
    first = added;
    empty = false;
  } else {
    more.push_back(added);
  }
}

void Holder::remove_member(LockId member_id) {
  Member* const leaving = member(member_id);
  if (leaving == nullptr) return;
  if (more.empty()) {
    empty = true;
    return;
  }
  *leaving = more.back();
  more.pop_back();
}

bool Holder::belongs_to(pid_t process) const {
  if (empty || process == 0) return false;
  return first.owner.tgid == process ||
         std::any_of(more.begin(), more.end(), [process](const Member& one) { return one.owner.tgid == process; });
}

LockMode Holder::needed() const {
  LockMode most = opened;
  for_each_member([&most](const Member& one) {
    if (one.flocked == LockMode::kExclusive) most = LockMode::kExclusive;
  });
  return most;
}

bool Holder::flock_conflicts(LockId member_id, LockMode wanted) const {
  bool conflict = false;
  for_each_member([&](const Member& one) {
    if (one.id == member_id || !one.flocked) return;
    conflict |= wanted == LockMode::kExclusive || one.flocked == LockMode::kExclusive;
  });
  return conflict;
}

bool LockRecord::compatible(LockMode mode) const { return mode == LockMode::kShared ? exclusive_ == 0 : unheld(); }

bool LockRecord::admits(LockMode mode) const {
  return queue_.empty() && compatible(mode) && yield_ == YieldPhase::kNone && worker == Worker::kNone;
}

const QueuedRequest* LockRecord::held_off() const {
  const auto found = std::find_if(queue_.begin(), queue_.end(), [](const QueuedRequest& one) { return one.held_off; });
  return found == queue_.end() ? nullptr : &*found;
}

const QueuedRequest* LockRecord::grantable() const {
  if (queue_.empty()) return nullptr;
  const QueuedRequest& head = queue_.front();
  if (head.want == Want::kRegain && is_busy(head.holder)) return nullptr;
  if (head.want == Want::kUpgrade) {
    return head.held_off || !held_only_by(head.owner.tgid, head.holder) ? nullptr : &head;
  }
  return yield_ != YieldPhase::kNone || !compatible(head.mode) ? nullptr : &head;
}

bool LockRecord::is_busy(LockId id) const {
  return std::any_of(holders_.begin(), holders_.end(), [id](const Holder& one) { return one.id == id && one.busy; });
}

bool LockRecord::flock_conflicts(const Holder& holder, LockId member_id, LockMode wanted) const {
  const pid_t process = holder.first.owner.tgid;
  return std::any_of(holders_.begin(), holders_.end(), [&](const Holder& one) {
    return (one.id == holder.id || one.belongs_to(process)) && one.flock_conflicts(member_id, wanted);
  });
}

bool LockRecord::held_only_by(pid_t process, LockId also) const {
  return std::all_of(holders_.begin(), holders_.end(), [=](const Holder& one) {
    if (one.state == Holder::State::kGivenUp) return true;
    return one.state == Holder::State::kHeld && !one.busy && !one.alone && (one.id == also || one.belongs_to(process));
  });
}

bool LockRecord::idle() const {
  return holders_.empty() && queue_.empty() && worker == Worker::kNone && yield_ == YieldPhase::kNone;
}

void LockRecord::add_holder(const Holder& holder) {
  holders_.push_back(holder);
  ++active_;
  if (holder.mode == LockMode::kExclusive) ++exclusive_;
}

Holder* LockRecord::holder(LockId id) {
  // The one that was added last, mostly.
  const auto found = std::find_if(holders_.rbegin(), holders_.rend(), [id](const Holder& one) { return one.id == id; });
  return found == holders_.rend() ? nullptr : &*found;
}

Holder* LockRecord::holder_of(LockId member_id) {
  const auto found = std::find_if(holders_.begin(), holders_.end(),
                                  [member_id](Holder& one) { return one.member(member_id) != nullptr; });
  return found == holders_.end() ? nullptr : &*found;
}

void LockRecord::confirm_holder(LockId id, TimePoint since) {
  Holder* const confirmed = holder(id);
  if (confirmed == nullptr) return;
  confirmed->state = Holder::State::kHeld;
  confirmed->since = since;
}

void LockRecord::remove_holder(LockId id) {
  Holder* const leaving = holder(id);
  if (leaving == nullptr) return;
  if (leaving->state != Holder::State::kGivenUp) give_up(*leaving);
  *leaving = std::move(holders_.back());
  holders_.pop_back();
  if (never_drained_ == id) never_drained_ = 0;
}

void LockRecord::give_up(Holder& holder) {
  holder.state = Holder::State::kGivenUp;
  --active_;
  if (holder.mode == LockMode::kExclusive) --exclusive_;
}

void LockRecord::take_up(Holder& holder, LockMode mode) {
  holder.state = Holder::State::kAsked;
  holder.mode = mode;
  ++active_;
  if (mode == LockMode::kExclusive) ++exclusive_;
}

void LockRecord::set_mode(Holder& holder, LockMode mode) {
  if (holder.mode == mode) return;
  holder.mode = mode;
  exclusive_ += mode == LockMode::kExclusive ? 1U : -std::size_t{1};
}

const Holder* LockRecord::oldest_holder() const {
  const Holder* oldest = nullptr;
  for (const Holder& holder : holders_) {
    if (holder.state == Holder::State::kHeld && (oldest == nullptr || holder.id < oldest->id)) oldest = &holder;
  }
  return oldest;
}

bool LockRecord::holds(LockId id) const {
  return std::any_of(holders_.begin(), holders_.end(), [id](const Holder& h) { return h.id == id; });
}

std::size_t LockRecord::open_members_of(pid_t process) const {
  std::size_t count = 0;
  for (const Holder& holder : holders_) {
    holder.for_each_member([&](const Member& one) { count += one.owner.tgid == process && !one.closed ? 1U : 0U; });
  }
  return count;
}

std::size_t LockRecord::closed_members_of(pid_t process) const {
  std::size_t count = 0;
  for (const Holder& holder : holders_) {
    holder.for_each_member([&](const Member& one) { count += one.owner.tgid == process && one.closed ? 1U : 0U; });
  }
  return count;
}

LockRecord::Queue::iterator LockRecord::enqueue(const QueuedRequest& request) {
  return queue_.insert(queue_.end(), request);
}

LockRecord::Queue::iterator LockRecord::enqueue_first(const QueuedRequest& request) {
  auto place = queue_.begin();
  if (request.want == Want::kUpgrade) {
    place = std::find_if(queue_.begin(), queue_.end(), [](const QueuedRequest& one) {
      return one.want != Want::kUpgrade && !(one.want == Want::kRegain && one.mode == LockMode::kShared);
    });
  }
  return queue_.insert(place, request);
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
  if (yield_ != YieldPhase::kDraining || !unheld()) return false;
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
  active_ = exclusive_ = 0;
  changed_at = 0;
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

bool LockTable::walk(Walk& walk, std::size_t most) const {
  const std::size_t buckets = records_.bucket_count();
  if (walk.buckets != buckets) walk = {0, buckets, std::move(walk.step)};  // all records have changed places
  walk.step.clear();
  const std::size_t last = std::min(buckets, walk.bucket + most * kEmptyBuckets);
  for (; walk.bucket < last && walk.step.size() < most; ++walk.bucket) {
    for (auto at = records_.begin(walk.bucket); at != records_.end(walk.bucket); ++at) {
      walk.step.emplace_back(at->first, &at->second);
    }
  }
  return walk.bucket < buckets || !walk.step.empty();
}

}  // namespace flockfs
