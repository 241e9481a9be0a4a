#include <algorithm>
#include <cerrno>

#include "model/lock_model.h"

namespace flockfs::test::model {

void LockModel::settle() {
  for (bool again = true; again && !unclear_;) {
    again = false;
    std::vector<int> numbers;
    for (const auto& [number, file] : files_) numbers.push_back(number);
    for (const int number : numbers) again |= advance(number);
  }
}

bool LockModel::advance(int number) {
  for (Group& group : files_.at(number).groups) {  // exclusive for a flock(2) that nobody has any more
    Mode needed = group.opened;
    for (const int member : group.members) {
      if (descriptions_.at(member).flocked == Mode::kExclusive) needed = Mode::kExclusive;
    }
    if (!group.given_up && needed == Mode::kShared) group.mode = Mode::kShared;
  }
  return take_head(number) || take_turn(number);
}

bool LockModel::take_head(int number) {
  File& file = files_.at(number);
  if (file.queue.empty()) return false;
  const Request head = file.queue.front();
  if (head.want == Want::kUpgrade) {
    if (!held_only_by(file, head.process, head.group)) return false;
    const Group* const group = find(file, head.group);
    unclear_ |= group == nullptr || group->given_up;
    if (unclear_) return false;
    merge(file, head.group, head.process);
    if (!file.outside.empty()) return false;
    file.queue.erase(file.queue.begin());
    grant_open(number, head, head.group);
    return true;
  }
  if (!compatible(file, head.mode) || !free_outside(file, head.mode)) return false;
  file.queue.erase(file.queue.begin());
  if (head.want == Want::kLock) {
    grant_open(number, head, add_group(number, head.mode));
    return true;
  }
  const bool called = head.want == Want::kFlock;
  Group& group = *find(file, called ? descriptions_.at(head.description).group : head.group);
  group.given_up = false;
  group.mode = head.mode;
  if (called) {
    descriptions_.at(head.description).flocked = head.mode;
    end(head.process, 0);
  }
  return true;
}

bool LockModel::take_turn(int number) {
  File& file = files_.at(number);
  for (std::size_t at = 0; at < file.turns.size(); ++at) {
    const Request turn = file.turns[at];
    Group& group = *find(file, descriptions_.at(turn.description).group);
    if (group.given_up || flock_conflicts(file, group, turn.description, turn.mode)) continue;
    if (turn.mode == Mode::kExclusive && group.mode == Mode::kShared) return give_up_for(number, at);
    descriptions_.at(turn.description).flocked = turn.mode;
    file.turns.erase(file.turns.begin() + static_cast<std::ptrdiff_t>(at));
    end(turn.process, 0);
    return true;
  }
  return false;
}

// As flock(2) does: the shared lock goes, so that two who want more do not wait for each other. Not if it can be
// converted at once.
bool LockModel::give_up_for(int number, std::size_t at) {
  File& file = files_.at(number);
  const Request turn = file.turns[at];
  const int id = descriptions_.at(turn.description).group;
  const int owner = flock_owner(file, *find(file, id));
  const bool at_once = held_only_by(file, owner, id) && file.queue.empty() && file.outside.empty();
  merge(file, id, owner);
  for (const Request& request : file.queue) unclear_ |= request.want == Want::kUpgrade && request.group == id;
  file.turns.erase(file.turns.begin() + static_cast<std::ptrdiff_t>(at));
  Group& group = *find(file, id);
  if (at_once) {
    group.mode = Mode::kExclusive;
    descriptions_.at(turn.description).flocked = Mode::kExclusive;
    end(turn.process, 0);
    return true;
  }
  group.given_up = true;
  file.queue.push_back(turn);
  return true;
}

bool LockModel::compatible(const File& file, Mode mode) {
  return std::all_of(file.groups.begin(), file.groups.end(), [mode](const Group& group) {
    return group.given_up || (mode == Mode::kShared && group.mode == Mode::kShared);
  });
}

bool LockModel::free_outside(const File& file, Mode mode) {
  return std::all_of(file.outside.begin(), file.outside.end(),
                     [mode](const auto& one) { return mode == Mode::kShared && one.second == Mode::kShared; });
}

// Whether the process opened one of its members.
bool LockModel::belongs_to(const Group& group, int process) const {
  return std::any_of(group.members.begin(), group.members.end(),
                     [&](int member) { return descriptions_.at(member).opener == process; });
}

bool LockModel::held_only_by(const File& file, int process, int also) const {
  return std::all_of(file.groups.begin(), file.groups.end(), [&](const Group& group) {
    return group.given_up || group.id == also || belongs_to(group, process);
  });
}

bool LockModel::joins_at_once(const Group& group, Mode mode) {
  return mode == Mode::kShared || group.mode == Mode::kExclusive;
}

// All locks of the process become one.
void LockModel::merge(File& file, int into, int process) {
  std::vector<int> emptied;
  for (const Group& group : file.groups) {
    if (group.id != into && !group.given_up && belongs_to(group, process)) emptied.push_back(group.id);
  }
  for (const int id : emptied) {
    for (const Request& request : file.queue) unclear_ |= request.want == Want::kUpgrade && request.group == id;
    const std::vector<int> members = find(file, id)->members;
    for (const int member : members) {
      descriptions_.at(member).group = into;
      find(file, into)->members.push_back(member);
    }
    std::erase_if(file.groups, [id](const Group& group) { return group.id == id; });
  }
}

bool LockModel::flock_conflicts(const File& file, const Group& group, int description, Mode mode) const {
  const int owner = descriptions_.at(group.members.front()).opener;
  for (const Group& one : file.groups) {
    if (one.id != group.id && !belongs_to(one, owner)) continue;
    for (const int member : one.members) {
      const auto& flocked = descriptions_.at(member).flocked;
      if (member == description || !flocked) continue;
      if (mode == Mode::kExclusive || flocked == Mode::kExclusive) return true;
    }
  }
  return false;
}

// The process whose further locks of the file do not stand in the way of a flock(2) call through this one.
int LockModel::flock_owner(const File& file, const Group& group) {
  std::set<int> openers;
  for (const int member : group.members) openers.insert(descriptions_.at(member).opener);
  if (openers.size() > 1) {
    for (const Group& other : file.groups) {
      if (other.id == group.id) continue;
      for (const int opener : openers) unclear_ |= belongs_to(other, opener);
    }
  }
  return descriptions_.at(group.members.front()).opener;
}

LockModel::Group* LockModel::find(File& file, int group) {
  const auto found =
      std::find_if(file.groups.begin(), file.groups.end(), [group](const Group& one) { return one.id == group; });
  return found == file.groups.end() ? nullptr : &*found;
}

const LockModel::Request* LockModel::request_of(int process) const {
  for (const auto& [number, file] : files_) {
    for (const auto* list : {&file.queue, &file.turns}) {
      for (const Request& request : *list) {
        if (request.process == process && process != 0) return &request;
      }
    }
  }
  return nullptr;
}

bool LockModel::has(int process, int description) const {
  const Process& all = processes_.at(process);
  const auto is_it = [description](const auto& one) { return one.second == description; };
  return std::any_of(all.descriptors.begin(), all.descriptors.end(), is_it) ||
         std::any_of(all.mappings.begin(), all.mappings.end(), is_it);
}

bool LockModel::mapped(int number) const {
  for (const auto& [process, all] : processes_) {
    for (const auto& [at, description] : all.mappings) {
      if (descriptions_.at(description).file == number) return true;
    }
  }
  return false;
}

std::set<int> LockModel::had_by(int process, int number) const {
  std::set<int> all;
  for (const auto& [id, description] : descriptions_) {
    if (description.file == number && has(process, id)) all.insert(id);
  }
  return all;
}

std::set<int> LockModel::opened_by(int process, int number) const {
  std::set<int> all;
  for (const auto& [id, description] : descriptions_) {
    if (description.file == number && description.opener == process) all.insert(id);
  }
  return all;
}

}  // namespace flockfs::test::model
