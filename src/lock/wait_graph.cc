#include "lock/wait_graph.h"

#include <algorithm>
#include <set>

namespace flockfs {
namespace {

// The waits and processes that are stuck: the greatest set in which each has its reason in the set.
class Stuck {
 public:
  Stuck(const WaitGraph& graph, const WaitFacts& facts)
      : graph_(graph), facts_(facts), waits_(graph.nodes.size(), true) {
    for (std::size_t at = 0; at < graph.nodes.size(); ++at) of_process_[graph.nodes[at].process].push_back(at);
    for (bool changed = true; changed;) {
      changed = false;
      for (std::size_t at = 0; at < waits_.size(); ++at) {
        if (!waits_[at] || next_of(at)) continue;
        waits_[at] = false;
        changed = true;
      }
    }
  }

  [[nodiscard]] bool contains(std::size_t at) const { return waits_[at]; }

  // A stuck wait that this one waits for.
  [[nodiscard]] std::optional<std::size_t> next_of(std::size_t at) const {
    const std::vector<std::size_t> reasons = reasons_of(at);
    return reasons.empty() ? std::nullopt : std::optional(reasons.front());
  }

  // The stuck waits of a process in its way, or the one before it in the queue; empty if it may end.
  [[nodiscard]] std::vector<std::size_t> reasons_of(std::size_t at) const {
    const WaitGraph::Node& node = graph_.nodes[at];
    if (ends_by_signal(node.id) || (node.flock && ends_by_alarm(node.process))) return {};
    for (const pid_t holder : node.holders) {
      if (holds(holder, node.file) && process(holder)) return of_process_.at(holder);
    }
    if (node.ahead && waits_[*node.ahead]) return {*node.ahead};
    return {};
  }

 private:
  [[nodiscard]] bool ends_by_signal(std::uint64_t id) const {
    const auto seen = facts_.ending.find(id);
    return seen != facts_.ending.end() && seen->second;
  }
  [[nodiscard]] bool ends_by_alarm(pid_t process) const {
    const auto state = facts_.processes.find(process);
    return state != facts_.processes.end() && state->second.catches_alarm;
  }
  [[nodiscard]] bool holds(pid_t holder, const FileId& file) const {
    const auto seen = facts_.holds.find({holder, file});
    return seen == facts_.holds.end() || seen->second;
  }
  [[nodiscard]] bool process(pid_t number) const {
    const auto waits = of_process_.find(number);
    if (number == 0 || waits == of_process_.end()) return false;
    const auto state = facts_.processes.find(number);
    if (state != facts_.processes.end() && state->second.threads != waits->second.size()) return false;
    return std::all_of(waits->second.begin(), waits->second.end(), [this](std::size_t at) { return waits_[at]; });
  }

  const WaitGraph& graph_;
  const WaitFacts& facts_;
  std::vector<bool> waits_;
  std::map<pid_t, std::vector<std::size_t>> of_process_;
};

}  // namespace

WaitCircle find_circle(const WaitGraph& graph, const WaitFacts& facts, std::size_t start) {
  const Stuck stuck(graph, facts);
  if (!stuck.contains(start)) return {};
  std::vector<std::size_t> way;
  std::set<std::size_t> seen;
  for (std::size_t at = start; seen.insert(at).second; at = *stuck.next_of(at)) way.push_back(at);
  const std::size_t again = *stuck.next_of(way.back());
  way.erase(way.begin(), std::find(way.begin(), way.end(), again));
  WaitCircle circle{way, way};
  std::set<std::size_t> found(way.begin(), way.end());
  for (std::size_t next = 0; next < circle.rests_on.size(); ++next) {
    for (const std::size_t reason : stuck.reasons_of(circle.rests_on[next])) {
      if (found.insert(reason).second) circle.rests_on.push_back(reason);
    }
  }
  return circle;
}

}  // namespace flockfs
