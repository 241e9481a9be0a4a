// Who holds and who waits, for somebody to look at.

#include <algorithm>
#include <utility>

#include "lock/wait_room.h"

namespace flockfs {

namespace {

// Some ten microseconds under the mutex.
constexpr std::size_t kStep = 64;

bool is_full(const std::vector<Blocker>& blockers) { return blockers.size() >= LockSnapshot::kMostBlockers; }

// Those who hold the lock in the way of this mode; not the process `own`, if it is one that makes its own lock
// exclusive.
std::vector<Blocker> holders_in_the_way(const LockRecord& record, LockMode mode, pid_t own) {
  std::vector<Blocker> found;
  for (const Holder& holder : record.holders()) {
    if (is_full(found)) break;
    if (holder.state != Holder::State::kHeld || !in_the_way(holder.mode, mode)) continue;
    if (holder.empty) found.push_back({0, holder.mode, true});  // on its way out
    holder.for_each_member([&](const Member& member) {
      const pid_t process = member.owner.tgid;
      if (is_full(found) || (own != 0 && process == own)) return;
      found.push_back({process, holder.mode, true});
    });
  }
  return found;
}

}  // namespace

// Null for what no client waits for.
const Wait* WaitRoom::client_wait(WaitId id) const {
  const auto found = waits_.find(id);
  return found == waits_.end() || found->second->internal ? nullptr : found->second.get();
}

void WaitRoom::look_at_waits(const FileId& file, const LockRecord& record, AllSeen& waiting) const {
  // The same for all who want the same: their number times that of the holders might be millions.
  const std::vector<Blocker> writers = holders_in_the_way(record, LockMode::kShared, 0);
  const std::vector<Blocker> all = holders_in_the_way(record, LockMode::kExclusive, 0);
  const FileId shown = listed(file);
  const auto add = [&](const Wait& wait, std::vector<Blocker> blockers, std::optional<Blocker> ahead) {
    waiting[wait.id] = {shown,
                        {file, wait.request.mode, wait.process, {}, wait.suspected, wait.waiter, std::move(blockers)},
                        wait.since,
                        ahead};
  };
  std::optional<Blocker> last;
  std::optional<Blocker> last_writer;
  for (const QueuedRequest& request : record.queue()) {
    const bool reads = request.mode == LockMode::kShared;
    const Wait* const wait = client_wait(request.wait_id);
    if (wait != nullptr && request.want == Want::kUpgrade) {
      add(*wait, holders_in_the_way(record, request.mode, request.owner.tgid), last);
    } else if (wait != nullptr) {
      add(*wait, reads ? writers : all, reads ? last_writer : last);
    }
    last = Blocker{request.owner.tgid, request.mode, true};
    if (!reads) last_writer = last;
  }
  for (const WaitId id : record.turns) {
    const Wait* const wait = client_wait(id);
    // Another flock(2) of the same process is in the way.
    if (wait != nullptr) add(*wait, {{wait->process, LockMode::kExclusive, true}}, {});
  }
}

void WaitRoom::look_at(const FileId& file, const LockRecord& record, LockSnapshot& to, AllSeen& waiting) const {
  for (const Holder& holder : record.holders()) {
    if (holder.state != Holder::State::kHeld) continue;
    holder.for_each_member([&](const Member& member) { to.held[member.id] = holder.mode; });
  }
  if (!record.queue().empty() || !record.turns.empty()) look_at_waits(file, record, waiting);
}

void WaitRoom::add_those_outside(AllSeen& waiting) {
  std::unordered_multimap<FileId, WaitingLock*, FileIdHash> by_file;
  for (auto& [id, seen] : waiting) by_file.emplace(seen.listed, &seen.lock);
  (void)foreign_.for_each([&](const ForeignLock& lock) {
    if (lock.waits || !locker_.minds(lock.kind)) return;
    const auto [begin, end] = by_file.equal_range(lock.file);
    for (auto at = begin; at != end; ++at) {
      WaitingLock& waits = *at->second;
      if (!in_the_way(lock.mode, waits.mode) || is_full(waits.blocked_by)) continue;
      // Once: it may have several, and the kernel shows a line twice if others come and go while the list is read.
      const Blocker blocker{lock.pid, lock.mode, false};
      if (std::ranges::find(waits.blocked_by, blocker) == waits.blocked_by.end()) waits.blocked_by.push_back(blocker);
    }
  });
}

LockSnapshot WaitRoom::snapshot() {
  LockSnapshot result;
  AllSeen waiting;
  LockTable::Walk walk;
  for (bool more = true; more;) {
    MutexLock lock(mutex_);
    more = table_.walk(walk, kStep);
    for (const auto& [file, record] : walk.step) look_at(file, *record, result, waiting);
  }
  if (!waiting.empty()) add_those_outside(waiting);
  const TimePoint now = clock_.now();
  result.waiting.reserve(waiting.size());
  for (auto& [id, seen] : waiting) {
    seen.lock.waited = now - seen.since;
    if (seen.lock.blocked_by.empty() && seen.ahead) seen.lock.blocked_by.push_back(*seen.ahead);
    result.waiting.push_back(std::move(seen.lock));
  }
  std::ranges::sort(result.waiting, std::ranges::greater{}, &WaitingLock::waited);
  return result;
}

}  // namespace flockfs
