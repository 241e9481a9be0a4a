// Looks at the processes that wait for a client of the mirror, and at those they wait for: whether one waits for
// itself, and whether all of a circle do (DESIGN 1.6, 1.7). One thread at a time, of the pool, or the keeper if there
// is none.

#include <algorithm>
#include <map>
#include <set>
#include <utility>

#include "lock/wait_room.h"

namespace flockfs {

namespace {

// A descriptor can be handed to a process that waits, which changes nothing here: looked at again, less and less often.
constexpr Duration kLookAgainAfter = std::chrono::milliseconds(1);
constexpr Duration kFirstExamPause = std::chrono::milliseconds(20);
constexpr Duration kLongestExamPause = std::chrono::seconds(5);

}  // namespace

// Whom only somebody outside is in the way of can neither join anything nor wait in a circle that is seen from here.
bool WaitRoom::worth_examining(const Wait& wait) {
  if (wait.request.alone || wait.request.owner.tgid == 0) return false;
  const LockRecord* const record = table_.find(wait.request.file);
  return record != nullptr && (!record->holders().empty() || record->queue().size() > 1);
}

void WaitRoom::schedule_exam(const WaitPtr& wait, TimePoint at) {
  if (wait->next_exam) exams_.erase({*wait->next_exam, wait->id});
  wait->next_exam = at;
  exams_.emplace(at, wait->id);
  wake_keeper(at);
}

// What this process has of the file has changed: others of its threads may be helped by that.
void WaitRoom::examine_again(LockRecord& record, pid_t process, Aftermath& after) {
  if (process == 0 || record.queue().empty()) return;
  const TimePoint now = clock_.now();
  for (const QueuedRequest& request : record.queue()) {
    if (request.owner.tgid != process || request.want != Want::kLock) continue;
    const WaitPtr& wait = waits_.at(request.wait_id);
    if (wait->request.alone) continue;
    schedule_exam(wait, now);
    after.examine = true;
  }
}

void WaitRoom::start_examining() {
  {
    MutexLock lock(mutex_);
    if (examining_ || exams_.empty() || exams_.begin()->first > clock_.now()) return;
    examining_ = true;
    ++jobs_;
  }
  if (pool_.run([this] {
        examine_due();
        MutexLock lock(mutex_);
        if (--jobs_ == 0) no_jobs_.notify_all();
      })) {
    return;
  }
  MutexLock lock(mutex_);  // the keeper does it
  examining_ = false;
  if (!exams_.empty()) wake_keeper(exams_.begin()->first);
  if (--jobs_ == 0) no_jobs_.notify_all();
}

void WaitRoom::examine_due() {
  for (;;) {
    WaitPtr wait;
    {
      MutexLock lock(mutex_);
      const TimePoint now = clock_.now();
      if (exams_.empty() || exams_.begin()->first > now) {
        examining_ = false;
        if (!exams_.empty()) wake_keeper(exams_.begin()->first);
        return;
      }
      wait = waits_.at(exams_.begin()->second);
      wait->exam_pause = std::clamp(wait->exam_pause * 2, kFirstExamPause, kLongestExamPause);
      schedule_exam(wait, now + wait->exam_pause);
    }
    examine(wait);
  }
}

void WaitRoom::examine(const WaitPtr& wait) {
  const LockRequest& request = wait->request;
  const pid_t process = request.owner.tgid;
  if (process == 0 || wait->internal || wait->member != 0) return;
  bool held_by_clients = false;
  {
    MutexLock lock(mutex_);
    const LockRecord* record = table_.find(request.file);
    held_by_clients = record != nullptr && !record->holders().empty();
  }
  if (held_by_clients) {
    const std::uint64_t seen = last_change(request.file);
    const Holding holding = holders_.holding(process, request.file).value_or(Holding{});
    Aftermath after;
    {
      MutexLock lock(mutex_);
      const LockRecord* const record = table_.find(request.file);
      if (record != nullptr && record->changed_at != seen) {  // what was seen may be out of date
        if (wait->state == Wait::State::kQueued) schedule_exam(wait, clock_.now() + kLookAgainAfter);
        return;
      }
      if (reopen_ == Reopen::kJoin) {
        (void)join(wait, holding, after);
      } else if (waits_for_own_thread(*wait, holding)) {
        cancel(wait, WaitEnd::kDeadlock, after);
      }
    }
    see_to(std::move(after));
  }
  {
    MutexLock lock(mutex_);
    wait->examined = true;
  }
  look_for_deadlock(wait);
}

// The thread that waits has opened what it waits for, and its process has that still: only another thread could close
// it, and Legato's threads do not (DESIGN 1.6).
bool WaitRoom::waits_for_own_thread(const Wait& wait, const Holding& holding) {
  if (wait.state != Wait::State::kQueued || wait.asked) return false;
  const LockRequest& request = wait.request;
  LockRecord* const record = table_.find(request.file);
  if (record == nullptr || holding.descriptions < record->open_members_of(request.owner.tgid)) return false;
  bool own = false;
  for (const Holder& holder : record->holders()) {
    if (holder.state != Holder::State::kHeld || !in_the_way(holder.mode, request.mode)) continue;
    holder.for_each_member([&](const Member& member) {
      own |= member.owner.tgid == request.owner.tgid && member.tid == request.tid && !member.closed;
    });
  }
  return own;
}

void WaitRoom::look_for_deadlock(const WaitPtr& wait) {
  if (!wait->endless_open()) return;
  WaitGraph graph;
  std::optional<std::size_t> start;
  {
    MutexLock lock(mutex_);
    if (wait->state != Wait::State::kQueued || !blocks_somebody(wait->request.owner.tgid)) return;
    start = draw_graph(*wait, graph);
  }
  if (!start) return;
  WaitFacts facts;
  const WaitCircle first = find_circle(graph, facts, *start);
  WaitCircle circle = first;
  while (!circle.empty() && learn(graph, circle, facts)) circle = find_circle(graph, facts, *start);
  if (!circle.empty() && refuse_one_of(graph, circle)) return;
  if (first.empty()) return;
  std::shared_ptr<LockWaiter> waiter;
  {
    MutexLock lock(mutex_);
    if (wait->state != Wait::State::kQueued || std::exchange(wait->suspected, true)) return;
    waiter = wait->waiter;
  }
  std::vector<pid_t> processes;
  for (const std::size_t at : first) processes.push_back(graph.nodes[at].process);
  waiter->on_possible_deadlock(processes);
}

// Whether somebody waits for what the process has, as far as the table knows.
bool WaitRoom::blocks_somebody(pid_t process) {
  const LockRecord* last = nullptr;
  for (const auto& [id, wait] : waits_) {
    const LockRecord* const record = table_.find(wait->request.file);
    if (record == nullptr || record == last) continue;
    last = record;
    if (std::any_of(record->holders().begin(), record->holders().end(),
                    [process](const Holder& holder) { return holder.belongs_to(process); })) {
      return true;
    }
    if (std::any_of(record->queue().begin(), record->queue().end(),
                    [process](const QueuedRequest& request) { return request.owner.tgid == process; }) &&
        record->queue().back().owner.tgid != process) {
      return true;
    }
  }
  return false;
}

// Whether the wait may turn out to be for what its own process has.
bool WaitRoom::may_join(const Wait& wait, const LockRecord& record) const {
  if (reopen_ == Reopen::kWait || wait.place->want != Want::kLock) return false;
  return !wait.examined || std::any_of(record.holders().begin(), record.holders().end(), [&](const Holder& holder) {
    return holder.belongs_to(wait.request.owner.tgid);
  });
}

// All endless opens, and who is in their way. Returns the place of `start`.
std::optional<std::size_t> WaitRoom::draw_graph(const Wait& start, WaitGraph& graph) {
  std::map<FileId, LockRecord*> records;
  for (const auto& [id, wait] : waits_) {
    if (wait->state == Wait::State::kQueued && wait->endless_open()) records[wait->request.file] = nullptr;
  }
  std::optional<std::size_t> place;
  for (auto& [file, record] : records) {
    record = table_.find(file);
    if (record == nullptr) continue;
    std::optional<std::size_t> ahead;
    for (const QueuedRequest& request : record->queue()) {
      const Wait& wait = *waits_.at(request.wait_id);
      if (!wait.endless_open() || may_join(wait, *record)) continue;
      WaitGraph::Node node{request.wait_id, request.owner.tgid, file, {}, ahead};
      const bool joins = reopen_ == Reopen::kJoin;
      for (const Holder& holder : record->holders()) {
        if (holder.state != Holder::State::kHeld || !in_the_way(holder.mode, request.mode)) continue;
        if (request.want == Want::kUpgrade && (holder.id == request.holder || holder.belongs_to(node.process)))
          continue;
        holder.for_each_member([&](const Member& member) {
          if (!joins || member.owner.tgid != node.process) node.holders.push_back(member.owner.tgid);
        });
      }
      if (request.wait_id == start.id) place = graph.nodes.size();
      ahead = graph.nodes.size();
      graph.nodes.push_back(std::move(node));
    }
  }
  return place;
}

// Looks at what the circle rests on. False if all of that is known.
bool WaitRoom::learn(const WaitGraph& graph, const WaitCircle& circle, WaitFacts& facts) {
  bool news = false;
  for (const std::size_t at : circle) {
    const WaitGraph::Node& node = graph.nodes[at];
    if (!facts.threads.contains(node.process)) {
      facts.threads[node.process] = holders_.threads(node.process).value_or(0);
      news = true;
    }
    for (const pid_t holder : node.holders) {
      if (facts.holds.contains({holder, node.file})) continue;
      facts.holds[{holder, node.file}] = holds_for_sure(holder, node.file);
      news = true;
    }
  }
  return news;
}

// All that it opened of the file, as far as the table knows, it has still.
bool WaitRoom::holds_for_sure(pid_t process, const FileId& file) {
  const auto holding = holders_.holding(process, file);
  if (!holding || !holding->any()) return false;
  MutexLock lock(mutex_);
  const LockRecord* const record = table_.find(file);
  if (record == nullptr) return false;
  return holding->mapped ||
         (holding->descriptions >= record->open_members_of(process) && record->closed_members_of(process) == 0);
}

// EDEADLK for the one that closed the circle, if all of it waits still. False if it does not.
bool WaitRoom::refuse_one_of(const WaitGraph& graph, const WaitCircle& circle) {
  Aftermath after;
  {
    MutexLock lock(mutex_);
    std::uint64_t last = 0;
    for (const std::size_t at : circle) {
      const auto found = waits_.find(graph.nodes[at].id);
      if (found == waits_.end() || found->second->state != Wait::State::kQueued) return false;
      last = std::max(last, graph.nodes[at].id);
    }
    const WaitPtr refused = waits_.at(last);  // the map forgets it
    cancel(refused, WaitEnd::kDeadlock, after);
  }
  see_to(std::move(after));
  return true;
}

}  // namespace flockfs
