// What others see of the model.

#include <fcntl.h>

#include <algorithm>

#include "model/lock_model.h"

namespace flockfs::test::model {
namespace {

std::vector<int> keys(const std::map<int, int>& from) {
  std::vector<int> all;
  for (const auto& [key, value] : from) all.push_back(key);
  return all;
}

const char* name_of(Mode mode) { return mode == Mode::kShared ? "shared" : "exclusive"; }

}  // namespace

std::map<int, LockModel::Locks> LockModel::locks() const {
  std::map<int, Locks> all;
  for (const auto& [number, file] : files_) {
    Locks& locks = all[number];
    for (const Group& group : file.groups) {
      if (!group.given_up) ++(group.mode == Mode::kShared ? locks.shared : locks.exclusive);
    }
  }
  return all;
}

std::vector<int> LockModel::processes(bool waiting) const {
  std::vector<int> all;
  for (const auto& [number, process] : processes_) {
    if (waits(number) == waiting) all.push_back(number);
  }
  return all;
}

std::vector<int> LockModel::descriptors(int process) const { return keys(processes_.at(process).descriptors); }

std::vector<int> LockModel::mappings(int process) const { return keys(processes_.at(process).mappings); }

bool LockModel::readable(int process, int number) const {
  const int description = processes_.at(process).descriptors.at(number);
  return (descriptions_.at(description).flags & O_ACCMODE) != O_WRONLY;
}

bool LockModel::writable(int process, int number) const {
  const int description = processes_.at(process).descriptors.at(number);
  return (descriptions_.at(description).flags & O_ACCMODE) != O_RDONLY;
}

std::vector<int> LockModel::outside_locks() const {
  std::vector<int> all;
  for (const auto& [number, file] : files_) {
    for (const auto& [lock, mode] : file.outside) all.push_back(lock);
  }
  return all;
}

std::string LockModel::describe() const {
  std::string text;
  for (const auto& [number, file] : files_) {
    if (file.groups.empty() && file.queue.empty() && file.turns.empty() && file.outside.empty()) continue;
    text += "  file " + std::to_string(number);
    for (const auto& [name, named] : names_) text += named == number ? " (" + name + ")" : "";
    text += ":";
    for (const auto& [lock, mode] : file.outside) text += " o" + std::to_string(lock) + " " + name_of(mode) + ";";
    for (const Group& group : file.groups) {
      text += group.given_up ? " given up" : std::string(" ") + name_of(group.mode);
      for (const int member : group.members) {
        text += " [opened by p" + std::to_string(descriptions_.at(member).opener) + ":";
        for (const auto& [process, all] : processes_) {
          for (const auto& [at, which] : all.descriptors) {
            if (which == member) text += " p" + std::to_string(process) + "/d" + std::to_string(at);
          }
          for (const auto& [at, which] : all.mappings) {
            if (which == member) text += " p" + std::to_string(process) + "/m" + std::to_string(at);
          }
        }
        text += "]";
      }
      text += ";";
    }
    for (const Request& turn : file.turns) text += " p" + std::to_string(turn.process) + " waits for its turn;";
    for (const Request& request : file.queue) {
      text += request.process == 0 ? " to be had again;" : " p" + std::to_string(request.process) + " waits;";
    }
    text += "\n";
  }
  return text;
}

}  // namespace flockfs::test::model
