// Circles of processes that wait for each other (DESIGN 1.7). By the thread that examines waits.

#include <algorithm>
#include <map>
#include <set>
#include <utility>
#include <vector>

#include "lock/wait_room.h"

namespace flockfs {

void WaitRoom::look_for_deadlock(const WaitPtr& wait) {
  if (!wait->endless()) return;
  WaitGraph graph;
  std::optional<std::size_t> start;
  {
    MutexLock lock(mutex_);
    if (wait->state != Wait::State::kQueued || !may_be_stuck(*wait)) return;
    start = draw_graph(*wait, graph);
  }
  if (!start) return;
  WaitFacts facts;
  const WaitCircle first = find_circle(graph, facts, *start);
  WaitCircle circle = first;
  while (!circle.empty() && learn(graph, circle, facts)) circle = find_circle(graph, facts, *start);
  const Refusal refusal = circle.empty() ? Refusal::kNoOpen : refuse_one_of(graph, circle);
  if (refusal != Refusal::kNoOpen || first.empty()) return;
  std::shared_ptr<LockWaiter> waiter;
  {
    MutexLock lock(mutex_);
    if (wait->state != Wait::State::kQueued || std::exchange(wait->suspected, true)) return;
    waiter = wait->waiter;
  }
  std::vector<pid_t> processes;
  for (const std::size_t at : first.waits) processes.push_back(graph.nodes[at].process);
  waiter->on_possible_deadlock(processes);
}

// Whether somebody who is in its way waits as well, as far as is known.
bool WaitRoom::may_be_stuck(const Wait& wait) {
  const LockRecord* const record = table_.find(wait.request.file);
  if (record == nullptr) return false;
  std::vector<pid_t> openers;
  for (const Holder& holder : record->holders()) {
    holder.for_each_member([&](const Member& member) { openers.push_back(member.owner.tgid); });
  }
  for (const pid_t opener : openers) {
    if (waiting_.contains(opener)) return true;
  }
  const auto heirs = have_.find(wait.number);
  return heirs != have_.end() && heirs->second.size() > heirs->second.count(wait.process);
}

// Whether the wait may turn out to be for what its own process has.
bool WaitRoom::may_join(const Wait& wait, const std::set<pid_t>& openers) const {
  if (reopen_ == Reopen::kWait || wait.place->want != Want::kLock) return false;
  return !wait.examined || openers.contains(wait.process) ||
         std::binary_search(wait.has.begin(), wait.has.end(), wait.number);
}

// Those who have the file without having opened it. Which open their descriptors come from is not known, so only where
// all that are left are in the way.
void WaitRoom::add_heirs(const LockRecord& record, const Wait& wait, WaitGraph::Node& node) {
  const auto heirs = have_.find(wait.number);
  if (heirs == have_.end() || wait.place->want != Want::kLock) return;
  for (const Holder& holder : record.holders()) {
    if (holder.state != Holder::State::kHeld || !in_the_way(holder.mode, wait.request.mode)) return;
  }
  for (const auto& [process, count] : heirs->second) {
    if (process != wait.process && std::find(node.holders.begin(), node.holders.end(), process) == node.holders.end()) {
      node.holders.push_back(process);
    }
  }
}

// flock(2) calls that wait for another one of the same process. One whose holder is only busy waits for nobody here.
void WaitRoom::add_turns(const LockRecord& record, WaitGraph& graph) {
  for (const std::uint64_t id : record.turns) {
    const Wait& wait = *waits_.at(id);
    WaitGraph::Node node{id, wait.process, wait.request.file, {}, std::nullopt, true, wait.request.tid};
    for (const Holder& holder : record.holders()) {
      holder.for_each_member([&](const Member& member) {
        if (member.id != wait.member && member.flocked && in_the_way(*member.flocked, wait.request.mode))
          node.holders.push_back(member.owner.tgid);
      });
    }
    graph.nodes.push_back(std::move(node));
  }
}

// All endless waits, and who is in their way. Returns the place of `start`.
std::optional<std::size_t> WaitRoom::draw_graph(const Wait& start, WaitGraph& graph) {
  std::map<FileId, LockRecord*> records;
  for (const auto& [id, wait] : waits_) {
    if (wait->state == Wait::State::kQueued && wait->endless()) records[wait->request.file] = nullptr;
  }
  for (auto& [file, record] : records) {
    record = table_.find(file);
    if (record == nullptr) continue;
    add_turns(*record, graph);
    std::vector<std::pair<const Holder*, pid_t>> in_it;
    for (const Holder& holder : record->holders()) {
      holder.for_each_member([&](const Member& member) { in_it.emplace_back(&holder, member.owner.tgid); });
    }
    std::set<pid_t> openers;
    for (const auto& [holder, process] : in_it) openers.insert(process);
    // Whoever does not wait himself is not stuck: mostly that is all of them.
    std::erase_if(in_it, [this](const auto& one) REQUIRES(mutex_) { return !waiting_.contains(one.second); });
    std::optional<std::size_t> ahead;
    for (const QueuedRequest& request : record->queue()) {
      const Wait& wait = *waits_.at(request.wait_id);
      if (!wait.endless() || may_join(wait, openers)) continue;
      WaitGraph::Node node{request.wait_id, wait.process, file, {}, ahead, !wait.is_open(), wait.request.tid};
      for (const auto& [holder, process] : in_it) {
        if (holder->state != Holder::State::kHeld || !in_the_way(holder->mode, request.mode)) continue;
        if (request.want != Want::kLock && holder->id == request.holder) continue;
        if (request.want == Want::kUpgrade && holder->belongs_to(node.process)) continue;
        if (reopen_ == Reopen::kWait || process != node.process) node.holders.push_back(process);
      }
      add_heirs(*record, wait, node);
      ahead = graph.nodes.size();
      graph.nodes.push_back(std::move(node));
    }
  }
  const auto place = std::find_if(graph.nodes.begin(), graph.nodes.end(),
                                  [&start](const WaitGraph::Node& node) { return node.id == start.id; });
  if (place == graph.nodes.end()) return std::nullopt;
  return static_cast<std::size_t>(place - graph.nodes.begin());
}

// Looks at what the circle rests on. False if all of that is known. Processes before what they hold, since one whose
// threads all wait closes nothing; and before signals: those that a kill has ended count no more, and by then the one
// that waits has SIGKILL pending (zap_other_threads() and complete_signal() in kernel/signal.c).
bool WaitRoom::learn(const WaitGraph& graph, const WaitCircle& circle, WaitFacts& facts) {
  std::set<pid_t> waiting;
  for (const WaitGraph::Node& node : graph.nodes) waiting.insert(node.process);
  bool news = false;
  const auto learn_state = [&](pid_t process) {
    if (facts.processes.contains(process)) return;
    facts.processes[process] = holders_.state(process).value_or(ProcessState{});
    news = true;
  };
  for (const std::size_t at : circle.rests_on) {
    const WaitGraph::Node& node = graph.nodes[at];
    learn_state(node.process);
    if (node.tid != 0 && !facts.ending.contains(node.id)) {
      facts.ending[node.id] = signals_.must_end(node.tid);
      news = true;
    }
    for (const pid_t holder : node.holders) {
      if (!waiting.contains(holder) || facts.holds.contains({holder, node.file})) continue;
      learn_state(holder);
      facts.holds[{holder, node.file}] = holds_for_sure(holder, node.file);
      news = true;
    }
  }
  return news;
}

// All that it opened of the file, as far as the table knows, it has still; or what it has is of somebody who has a
// lock.
bool WaitRoom::holds_for_sure(pid_t process, const FileId& file) {
  const auto holding = holders_.holding(process, file);
  if (!holding || !holding->any()) return false;
  MutexLock lock(mutex_);
  const LockRecord* const record = table_.find(file);
  if (record == nullptr) return false;
  const std::size_t open = record->open_members_of(process);
  const std::size_t closed = record->closed_members_of(process);
  if (open + closed == 0 && holding->in_doubt) return false;
  return (holding->mapped && !holding->in_doubt) || (holding->descriptions >= open && closed == 0);
}

// EDEADLK for the open that closed the circle, the youngest, if all that it rests on waits still. A flock(2) call is
// never refused: it waits for ever, as it does anywhere.
WaitRoom::Refusal WaitRoom::refuse_one_of(const WaitGraph& graph, const WaitCircle& circle) {
  Aftermath after;
  {
    MutexLock lock(mutex_);
    for (const std::size_t at : circle.rests_on) {
      const auto found = waits_.find(graph.nodes[at].id);
      if (found == waits_.end() || found->second->state != Wait::State::kQueued) return Refusal::kChanged;
    }
    std::uint64_t last = 0;
    for (const std::size_t at : circle.waits) {
      if (!graph.nodes[at].flock) last = std::max(last, graph.nodes[at].id);
    }
    if (last == 0) return Refusal::kNoOpen;
    const WaitPtr refused = waits_.at(last);  // the map forgets it
    cancel(refused, WaitEnd::kDeadlock, after);
  }
  see_to(std::move(after));
  return Refusal::kDone;
}

}  // namespace flockfs
