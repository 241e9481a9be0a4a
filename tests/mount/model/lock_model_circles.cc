// Waits that can never end. A wait is stuck if a stuck process holds what it waits for, or a stuck one is before it in
// the queue; the greatest set in which each has such a reason is what can never end. (It rests on the set, so an open
// file description that several processes have stays open as long as one of them is stuck.)

#include <algorithm>
#include <cerrno>

#include "model/lock_model.h"

namespace flockfs::test::model {

std::vector<LockModel::Node> LockModel::graph(View view) const {
  std::vector<Node> nodes;
  for (const auto& [number, file] : files_) {
    std::optional<std::size_t> ahead;
    for (const Request& request : file.queue) {
      const bool open = request.want == Want::kLock || request.want == Want::kUpgrade;
      if (view != View::kTrue) {
        if (!open) continue;
        // It may wait for what it has opened and given away, which may come back.
        if (request.want == Want::kLock && !opened_by(request.process, number).empty()) continue;
      }
      Node node{&request, {}, ahead};
      add_holders(file, number, node, view);
      ahead = nodes.size();
      nodes.push_back(node);
    }
    if (view != View::kTrue) continue;
    for (const Request& turn : file.turns) {
      Node node{&turn, {}, {}};
      for (const Group& group : file.groups) {
        for (const int member : group.members) {
          if (member == turn.description || !descriptions_.at(member).flocked) continue;
          for (const auto& [process, all] : processes_) {
            if (has(process, member)) node.holders.insert(process);
          }
        }
      }
      nodes.push_back(node);
    }
  }
  return nodes;
}

void LockModel::add_holders(const File& file, int number, Node& node, View view) const {
  const Request& request = *node.request;
  for (const Group& group : file.groups) {
    if (group.given_up || (request.mode == Mode::kShared && group.mode == Mode::kShared)) continue;
    if (request.want == Want::kUpgrade && (group.id == request.group || belongs_to(group, request.process))) continue;
    for (const int member : group.members) {
      if (view == View::kTrue) {
        for (const auto& [process, all] : processes_) {
          if (has(process, member)) node.holders.insert(process);
        }
        continue;
      }
      const int opener = descriptions_.at(member).opener;
      if (opener != request.process && thought_to_hold(opener, number, view)) node.holders.insert(opener);
    }
  }
}

bool LockModel::thought_to_hold(int process, int number, View view) const {
  if (!processes_.contains(process)) return false;
  const std::set<int> had = had_by(process, number);
  if (view == View::kSeenMaybe) return !had.empty();
  const std::set<int> opened = opened_by(process, number);
  return std::includes(had.begin(), had.end(), opened.begin(), opened.end());
}

std::vector<bool> LockModel::stuck_among(const std::vector<Node>& nodes) const {
  std::vector<bool> stuck(nodes.size(), true);
  const auto process_is_stuck = [&](int process) {
    for (std::size_t at = 0; at < nodes.size(); ++at) {
      if (stuck[at] && nodes[at].request->process == process) return !processes_.at(process).threaded;
    }
    return false;
  };
  for (bool changed = true; changed;) {
    changed = false;
    for (std::size_t at = 0; at < nodes.size(); ++at) {
      const Node& node = nodes[at];
      if (!stuck[at] || (node.ahead && stuck[*node.ahead])) continue;
      if (std::any_of(node.holders.begin(), node.holders.end(), process_is_stuck)) continue;
      stuck[at] = false;
      changed = true;
    }
  }
  return stuck;
}

bool LockModel::leads_to_itself(const std::vector<Node>& nodes, const std::vector<bool>& stuck,
                                std::size_t start) const {
  std::set<std::size_t> reached;
  std::vector<std::size_t> next{start};
  while (!next.empty()) {
    const Node& node = nodes[next.back()];
    next.pop_back();
    for (std::size_t at = 0; at < nodes.size(); ++at) {
      const int process = nodes[at].request->process;
      const bool holds = node.holders.contains(process) && !processes_.at(process).threaded;
      if (!stuck[at] || (node.ahead != at && !holds)) continue;
      if (reached.insert(at).second) next.push_back(at);
    }
  }
  return reached.contains(start);
}

// The numbers of the requests.
std::set<int> LockModel::in_circles(View view) const {
  const std::vector<Node> nodes = graph(view);
  const std::vector<bool> stuck = stuck_among(nodes);
  std::set<int> ids;
  for (std::size_t at = 0; at < nodes.size(); ++at) {
    if (stuck[at] && leads_to_itself(nodes, stuck, at)) ids.insert(nodes[at].request->id);
  }
  return ids;
}

// Before the command there was no circle, so each goes through a wait that has begun since. The youngest open is
// refused.
void LockModel::refuse_circles(int first_new) {
  while (!unclear_) {
    const std::set<int> circles = in_circles(View::kSeen);
    unclear_ |= circles != in_circles(View::kSeenMaybe);
    int youngest = 0;
    int process = 0;
    for (const auto& [number, file] : files_) {
      for (const Request& request : file.queue) {
        const bool open = request.want == Want::kLock || request.want == Want::kUpgrade;
        if (!open || !circles.contains(request.id) || request.id < youngest) continue;
        youngest = request.id;
        process = request.process;
      }
    }
    if (process == 0) break;
    unclear_ |= youngest < first_new;
    cancel(process);
    end(process, EDEADLK);
    settle();
  }
  unclear_ |= !in_circles(View::kTrue).empty();
}

}  // namespace flockfs::test::model
