#include <fcntl.h>

#include <algorithm>
#include <cerrno>

#include "model/lock_model.h"

namespace flockfs::test::model {

void LockModel::start_open(Request request) {
  const auto named = names_.find(request.open.name);
  if (named == names_.end()) {
    if ((request.open.flags & O_CREAT) != 0) {
      create(request);
    } else {
      end(request.process, ENOENT);
    }
    return;
  }
  const int number = named->second;
  const File& file = files_.at(number);
  request.id = ++last_id_;
  if (file.queue.empty() && compatible(file, request.mode) && free_outside(file, request.mode)) {
    grant_open(number, request, add_group(number, request.mode));
  } else if ((request.open.flags & O_NONBLOCK) != 0) {
    try_once(number, request);
  } else {
    park(number, request);
  }
}

// A file is locked before it has a name, so nobody is in the way.
void LockModel::create(const Request& request) {
  const int number = ++last_id_;
  files_[number] = {};
  names_[request.open.name] = number;
  grant_open(number, request, add_group(number, request.mode));
}

int LockModel::add_group(int number, Mode mode) {
  Group group;
  group.id = ++last_id_;
  group.mode = group.opened = mode;
  files_.at(number).groups.push_back(group);
  return group.id;
}

void LockModel::park(int number, Request request) {
  File& file = files_.at(number);
  Group* const own = own_group(number, request.process, request.mode);
  if (own != nullptr && joins_at_once(*own, request.mode)) {
    grant_open(number, request, own->id);
    return;
  }
  if (own == nullptr) {
    file.queue.push_back(request);
    return;
  }
  request.want = Want::kUpgrade;
  request.group = own->id;
  const auto place = std::find_if(file.queue.begin(), file.queue.end(), [](const Request& one) {
    return one.want != Want::kUpgrade && one.want != Want::kRegain;
  });
  file.queue.insert(place, request);
}

void LockModel::try_once(int number, const Request& request) {
  File& file = files_.at(number);
  if (file.queue.empty() && compatible(file, request.mode)) {  // somebody outside
    end(request.process, EAGAIN);
    return;
  }
  Group* const own = own_group(number, request.process, request.mode);
  if (own == nullptr) {
    end(request.process, EAGAIN);
    return;
  }
  const int id = own->id;
  if (!joins_at_once(*own, request.mode)) {
    const bool alone = held_only_by(file, request.process, id);
    if (alone) merge(file, id, request.process);
    if (!alone || !file.outside.empty()) {
      end(request.process, EAGAIN);
      return;
    }
    Group& group = *find(file, id);
    group.mode = group.opened = Mode::kExclusive;
  }
  grant_open(number, request, id);
}

// With the lock it turns out whether the name still leads to the file; if not, the lock goes first, and the kernel
// looks once more (DESIGN 1.3).
void LockModel::grant_open(int number, const Request& request, int group_id) {
  File& file = files_.at(number);
  Group& group = *find(file, group_id);
  if (request.mode == Mode::kExclusive) {
    group.opened = Mode::kExclusive;
    group.mode = Mode::kExclusive;
  }
  const auto named = names_.find(request.open.name);
  if (!request.second && (named == names_.end() || named->second != number)) {
    if (group.members.empty()) std::erase_if(file.groups, [&](const Group& one) { return one.id == group_id; });
    Request again;
    again.process = request.process;
    again.mode = request.mode;
    again.open = request.open;
    again.second = true;
    unclear_ |= looked_again_++ > 0;
    start_open(again);
    return;
  }
  const int made = ++last_id_;
  Description description;
  description.file = number;
  description.opener = request.process;
  description.group = group_id;
  description.flags = request.open.flags;
  descriptions_[made] = description;
  group.members.push_back(made);
  processes_.at(request.process).descriptors[request.open.made] = made;
  end(request.process, 0);
}

// What an open of the process joins, or has made exclusive; null if it has no part in a lock of the file.
LockModel::Group* LockModel::own_group(int number, int process, Mode mode) {
  File& file = files_.at(number);
  const std::set<int> had = had_by(process, number);
  const std::set<int> opened = opened_by(process, number);
  if (had.empty()) return nullptr;
  std::set<int> groups_had;
  std::set<int> groups_opened;
  for (const int one : had) groups_had.insert(descriptions_.at(one).group);
  for (const int one : opened) groups_opened.insert(descriptions_.at(one).group);
  for (const int group : groups_had) unclear_ |= find(file, group)->given_up;
  if (opened.empty()) {
    unclear_ |= file.groups.size() != 1;
  } else {
    unclear_ |= !std::includes(had.begin(), had.end(), opened.begin(), opened.end()) || groups_had != groups_opened ||
                (mode == Mode::kShared && groups_had.size() > 1);
  }
  return find(file, *groups_had.begin());
}

}  // namespace flockfs::test::model
