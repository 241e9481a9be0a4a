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
  return std::any_of(waits_.begin(), waits_.end(), [&wait](const auto& entry) {
    const Wait& other = *entry.second;
    return other.process != wait.process && std::binary_search(other.has.begin(), other.has.end(), wait.number);
  });
}

// Whether the wait may turn out to be for what its own process has.
bool WaitRoom::may_join(const Wait& wait, const LockRecord& record) const {
  if (reopen_ == Reopen::kWait || wait.place->want != Want::kLock) return false;
  return !wait.examined || std::any_of(record.holders().begin(), record.holders().end(),
                                       [&](const Holder& holder) { return holder.belongs_to(wait.process); });
}

// Those who have the file without having opened it. Which open their descriptors come from is not known, so only where
// all that are left are in the way.
void WaitRoom::add_inheritors(const LockRecord& record, const Wait& wait, WaitGraph::Node& node) {
  if (wait.number == 0 || wait.place->want != Want::kLock) return;
  for (const Holder& holder : record.holders()) {
    if (holder.state != Holder::State::kHeld || !in_the_way(holder.mode, wait.request.mode)) return;
  }
  for (const auto& [id, other] : waits_) {
    if (other->process == wait.process || !std::binary_search(other->has.begin(), other->has.end(), wait.number))
      continue;
    if (std::find(node.holders.begin(), node.holders.end(), other->process) == node.holders.end()) {
      node.holders.push_back(other->process);
    }
  }
}

// flock(2) calls that wait for another one of the same process.
void WaitRoom::add_turns(const LockRecord& record, WaitGraph& graph) {
  for (const std::uint64_t id : record.turns) {
    const Wait& wait = *waits_.at(id);
    WaitGraph::Node node{id, wait.process, wait.request.file, {}, std::nullopt, true};
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
    std::optional<std::size_t> ahead;
    for (const QueuedRequest& request : record->queue()) {
      const Wait& wait = *waits_.at(request.wait_id);
      if (!wait.endless() || may_join(wait, *record)) continue;
      WaitGraph::Node node{request.wait_id, wait.process, file, {}, ahead, !wait.is_open()};
      const bool joins = reopen_ == Reopen::kJoin;
      for (const Holder& holder : record->holders()) {
        if (holder.state != Holder::State::kHeld || !in_the_way(holder.mode, request.mode)) continue;
        if (request.want != Want::kLock && holder.id == request.holder) continue;
        if (request.want == Want::kUpgrade && holder.belongs_to(node.process)) continue;
        holder.for_each_member([&](const Member& member) {
          if (!joins || member.owner.tgid != node.process) node.holders.push_back(member.owner.tgid);
        });
      }
      add_inheritors(*record, wait, node);
      ahead = graph.nodes.size();
      graph.nodes.push_back(std::move(node));
    }
  }
  const auto place = std::find_if(graph.nodes.begin(), graph.nodes.end(),
                                  [&start](const WaitGraph::Node& node) { return node.id == start.id; });
  if (place == graph.nodes.end()) return std::nullopt;
  return static_cast<std::size_t>(place - graph.nodes.begin());
}

// Looks at what the circle rests on. False if all of that is known.
bool WaitRoom::learn(const WaitGraph& graph, const WaitCircle& circle, WaitFacts& facts) {
  std::set<pid_t> waiting;
  for (const WaitGraph::Node& node : graph.nodes) waiting.insert(node.process);
  bool news = false;
  for (const std::size_t at : circle) {
    const WaitGraph::Node& node = graph.nodes[at];
    if (!facts.processes.contains(node.process)) {
      facts.processes[node.process] = holders_.state(node.process).value_or(ProcessState{});
      news = true;
    }
    for (const pid_t holder : node.holders) {
      if (!waiting.contains(holder) || facts.holds.contains({holder, node.file})) continue;
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
  return holding->mapped || (holding->descriptions >= open && closed == 0);
}

// EDEADLK for the open that closed the circle, the youngest, if all of it waits still. False if it does not, or if
// there is no open: a flock(2) call waits for ever, as it does anywhere.
bool WaitRoom::refuse_one_of(const WaitGraph& graph, const WaitCircle& circle) {
  Aftermath after;
  {
    MutexLock lock(mutex_);
    std::uint64_t last = 0;
    for (const std::size_t at : circle) {
      const auto found = waits_.find(graph.nodes[at].id);
      if (found == waits_.end() || found->second->state != Wait::State::kQueued) return false;
      if (found->second->is_open()) last = std::max(last, graph.nodes[at].id);
    }
    if (last == 0) return false;
    const WaitPtr refused = waits_.at(last);  // the map forgets it
    cancel(refused, WaitEnd::kDeadlock, after);
  }
  see_to(std::move(after));
  return true;
}

}  // namespace flockfs
