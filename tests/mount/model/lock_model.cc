#include "model/lock_model.h"

#include <fcntl.h>
#include <sys/file.h>

#include <algorithm>
#include <cerrno>

namespace flockfs::test::model {

LockModel::LockModel(const std::vector<int>& processes, const std::set<int>& threaded,
                     const std::vector<std::string>& names) {
  for (const int process : processes) processes_[process].threaded = threaded.contains(process);
  for (const std::string& name : names) {
    names_[name] = ++last_id_;
    files_[last_id_] = {};
  }
}

void LockModel::apply(const Command& command) {
  ended_.clear();
  unclear_ = false;
  looked_again_ = 0;
  const int first_new = last_id_ + 1;
  carry_out(command);
  settle();
  note_waits();
  refuse_circles(first_new);
}

void LockModel::note_waits() {
  for (auto& [number, file] : files_) {
    for (auto* list : {&file.queue, &file.turns}) {
      for (Request& request : *list) {
        if (request.process != 0 && !request.noted) ++processes_.at(request.process).parks;
        request.noted = true;
      }
    }
  }
}

void LockModel::carry_out(const Command& command) {
  using Kind = Command::Kind;
  const int process = command.process;
  switch (command.kind) {
    case Kind::kOpen: {
      Request request;
      request.process = process;
      request.mode = (command.flags & (O_ACCMODE | O_TRUNC)) == O_RDONLY ? Mode::kShared : Mode::kExclusive;
      request.open = command;
      start_open(request);
      return;
    }
    case Kind::kFork: {
      Process child = processes_.at(process);
      child.parks = 0;
      child.threaded = false;
      processes_[command.made] = child;
      end(process, 0);
      return;
    }
    case Kind::kKill:
      kill(process);
      return;
    case Kind::kSignal:
      cancel(process);
      end(process, EINTR);
      return;
    case Kind::kTruncate:
      truncate(command);
      return;
    case Kind::kCloseAll:
      close_all(process);
      end(process, 0);
      return;
    case Kind::kUnlink:
    case Kind::kRemove:
      end(process, names_.erase(command.name) == 1 ? 0 : ENOENT);
      return;
    case Kind::kReplace:
      names_[command.name] = ++last_id_;
      files_[last_id_] = {};
      end(process, 0);
      return;
    case Kind::kOutsideTry:
      try_outside(command);
      return;
    case Kind::kOutsideRelease:
      for (auto& [number, file] : files_) file.outside.erase(command.number);
      end(process, 0);
      return;
    default:
      carry_out_by_descriptor(command);
      return;
  }
}

void LockModel::carry_out_by_descriptor(const Command& command) {
  using Kind = Command::Kind;
  Process& process = processes_.at(command.process);
  const bool unmaps = command.kind == Kind::kUnmap;
  auto& table = unmaps ? process.mappings : process.descriptors;
  const int description = table.at(command.number);
  switch (command.kind) {
    case Kind::kClose:
    case Kind::kUnmap:
      table.erase(command.number);
      dropped(description);
      break;
    case Kind::kDup:
      process.descriptors[command.made] = description;
      break;
    case Kind::kHandOver:
      descriptions_.at(description).handed_over = true;
      processes_.at(command.other).descriptors[command.made] = description;
      break;
    case Kind::kMap:
      unclear_ |= descriptions_.at(description).handed_over && !writable(command.process, command.number);
      process.mappings[command.made] = description;
      break;
    case Kind::kFlock:
      flock(command);
      return;
    case Kind::kFtruncate:
      end(command.process, (descriptions_.at(description).flags & O_ACCMODE) == O_RDONLY ? EINVAL : 0);
      return;
    default:
      break;
  }
  end(command.process, 0);
}

void LockModel::kill(int process) {
  if (request_of(process) != nullptr) cancel(process);
  close_all(process);
  processes_.erase(process);
}

void LockModel::close_all(int process) {
  Process& all = processes_.at(process);
  std::set<int> had;
  for (const auto& [number, description] : all.descriptors) had.insert(description);
  for (const auto& [number, description] : all.mappings) had.insert(description);
  all.descriptors.clear();
  all.mappings.clear();
  for (const int description : had) dropped(description);
}

// Somebody has lost a reference; the last one ends it.
void LockModel::dropped(int description) {
  for (const auto& [number, process] : processes_) {
    if (has(number, description)) return;
  }
  const Description ended = descriptions_.at(description);
  unclear_ |= mapped(ended.file);
  descriptions_.erase(description);
  ++unlocks_;
  File& file = files_.at(ended.file);
  Group& group = *find(file, ended.group);
  std::erase(group.members, description);
  if (!group.members.empty()) return;
  std::erase_if(file.queue,
                [&](const Request& request) { return request.want == Want::kRegain && request.group == ended.group; });
  std::erase_if(file.groups, [&](const Group& one) { return one.id == ended.group; });
}

// The process does not wait any more. What a flock(2) has given up is had again before anybody else gets anything.
void LockModel::cancel(int process) {
  for (auto& [number, file] : files_) {
    const auto is_its = [process](const Request& request) { return request.process == process; };
    std::erase_if(file.turns, is_its);
    const auto found = std::find_if(file.queue.begin(), file.queue.end(), is_its);
    if (found == file.queue.end()) continue;
    const Request gone = *found;
    file.queue.erase(found);
    if (gone.want != Want::kFlock) continue;
    Request regain;
    regain.id = ++last_id_;
    regain.want = Want::kRegain;
    regain.group = descriptions_.at(gone.description).group;
    file.queue.insert(file.queue.begin(), regain);
  }
}

void LockModel::flock(const Command& command) {
  const int number = processes_.at(command.process).descriptors.at(command.number);
  Description& description = descriptions_.at(number);
  File& file = files_.at(description.file);
  const auto is_its = [number](const Request& request) { return request.description == number; };
  if (find(file, description.group)->given_up || std::any_of(file.turns.begin(), file.turns.end(), is_its)) {
    unclear_ = true;
    return;
  }
  if ((command.flags & LOCK_UN) != 0) {
    description.flocked.reset();
    end(command.process, 0);
    return;
  }
  const Mode mode = (command.flags & LOCK_EX) != 0 ? Mode::kExclusive : Mode::kShared;
  if ((command.flags & LOCK_NB) != 0) {
    try_flock(description, mode, command.process);
    return;
  }
  Request request;
  request.id = ++last_id_;
  request.process = command.process;
  request.want = Want::kFlock;
  request.mode = mode;
  request.description = number;
  file.turns.push_back(request);
}

void LockModel::try_flock(Description& description, Mode mode, int process) {
  File& file = files_.at(description.file);
  Group& group = *find(file, description.group);
  const auto self = std::find_if(descriptions_.begin(), descriptions_.end(),
                                 [&](const auto& one) { return &one.second == &description; });
  const int owner = flock_owner(file, group);
  if (flock_conflicts(file, group, self->first, mode)) {
    end(process, EWOULDBLOCK);
    return;
  }
  if (mode == Mode::kExclusive && group.mode == Mode::kShared) {
    if (!held_only_by(file, owner, group.id)) {
      end(process, EWOULDBLOCK);
      return;
    }
    const int id = group.id;
    merge(file, id, owner);
    if (!file.outside.empty()) {
      end(process, EWOULDBLOCK);
      return;
    }
    find(file, id)->mode = Mode::kExclusive;
  }
  description.flocked = mode;
  end(process, 0);
}

// It never waits for a client of the mirror (DESIGN 4.2), and does not keep the lock.
void LockModel::truncate(const Command& command) {
  const auto named = names_.find(command.name);
  if (named == names_.end()) {
    end(command.process, ENOENT);
    return;
  }
  File& file = files_.at(named->second);
  if (!file.outside.empty()) {
    unclear_ = true;
    return;
  }
  bool granted = file.queue.empty() && compatible(file, Mode::kExclusive);
  if (!granted) {
    Group* const own = own_group(named->second, command.process, Mode::kExclusive);
    if (own != nullptr && (joins_at_once(*own, Mode::kExclusive) || held_only_by(file, command.process, own->id))) {
      const int id = own->id;
      if (own->mode == Mode::kShared) merge(file, id, command.process);
      Group& group = *find(file, id);
      group.mode = group.opened = Mode::kExclusive;
      granted = true;
    }
  }
  if (granted) ++unlocks_;
  end(command.process, granted ? 0 : EAGAIN);
}

void LockModel::try_outside(const Command& command) {
  const auto named = names_.find(command.name);
  if (named == names_.end()) {
    end(kOutside, ENOENT);
    return;
  }
  File& file = files_.at(named->second);
  const Mode mode = (command.flags & LOCK_EX) != 0 ? Mode::kExclusive : Mode::kShared;
  const bool granted = compatible(file, mode) && free_outside(file, mode);
  if (granted) file.outside[command.made] = mode;
  end(kOutside, granted ? 0 : EWOULDBLOCK);
}

}  // namespace flockfs::test::model
