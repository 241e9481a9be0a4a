#include "model/chooser.h"

#include <fcntl.h>
#include <sys/file.h>

#include <array>

namespace flockfs::test::model {
namespace {

using Kind = Command::Kind;

struct Weighed {
  Kind kind;
  unsigned weight;
};

// Mappings are rare because the end of one is noticed by looking, some milliseconds later.
constexpr std::array kKinds{
    Weighed{Kind::kOpen, 40},      Weighed{Kind::kClose, 16},         Weighed{Kind::kDup, 3},
    Weighed{Kind::kFork, 3},       Weighed{Kind::kHandOver, 5},       Weighed{Kind::kMap, 1},
    Weighed{Kind::kUnmap, 2},      Weighed{Kind::kKill, 2},           Weighed{Kind::kSignal, 4},
    Weighed{Kind::kFlock, 16},     Weighed{Kind::kTruncate, 2},       Weighed{Kind::kFtruncate, 2},
    Weighed{Kind::kUnlink, 2},     Weighed{Kind::kReplace, 4},        Weighed{Kind::kRemove, 1},
    Weighed{Kind::kOutsideTry, 8}, Weighed{Kind::kOutsideRelease, 6},
};

constexpr unsigned total() {
  unsigned sum = 0;
  for (const Weighed& one : kKinds) sum += one.weight;
  return sum;
}

bool happens_outside(Kind kind) {
  return kind == Kind::kReplace || kind == Kind::kRemove || kind == Kind::kOutsideTry || kind == Kind::kOutsideRelease;
}

}  // namespace

Command Chooser::next(const LockModel& model) {
  for (;;) {
    const std::optional<Command> command = propose(model);
    if (!command) continue;
    LockModel copy = model;
    copy.apply(*command);
    if (!copy.unclear()) return *command;
  }
}

std::optional<Command> Chooser::propose(const LockModel& model) {
  unsigned at = dice(total());
  std::size_t which = 0;
  while (at >= kKinds[which].weight) at -= kKinds[which++].weight;
  const Kind kind = kKinds[which].kind;
  if (!happens_outside(kind)) return propose_of_process(model, kind);
  Command command;
  command.kind = kind;
  command.process = LockModel::kOutside;
  if (kind == Kind::kOutsideRelease) {
    const std::vector<int> locks = model.outside_locks();
    if (locks.empty()) return std::nullopt;
    command.number = one_of(locks);
    return command;
  }
  command.name = one_of(names_);
  if (kind == Kind::kOutsideTry) {
    command.flags = (dice(2) == 0 ? LOCK_SH : LOCK_EX) | LOCK_NB;
    command.made = ++last_made_;
  }
  return command;
}

std::optional<Command> Chooser::propose_of_process(const LockModel& model, Kind kind) {
  const bool waits = kind == Kind::kSignal || (kind == Kind::kKill && dice(2) == 0);
  const std::vector<int> able = model.processes(waits);
  const std::size_t all = able.size() + model.processes(!waits).size();
  if (able.empty() || (kind == Kind::kKill && all < 3) || (kind == Kind::kFork && all >= most_processes_)) {
    return std::nullopt;
  }
  Command command;
  command.kind = kind;
  command.process = one_of(able);
  switch (kind) {
    case Kind::kOpen:
      command.name = one_of(names_);
      command.flags = open_flags();
      command.made = ++last_made_;
      return command;
    case Kind::kTruncate:
    case Kind::kUnlink:
      command.name = one_of(names_);
      return command;
    case Kind::kFork:
      command.made = ++last_made_;
      return command;
    case Kind::kKill:
    case Kind::kSignal:
      return command;
    case Kind::kUnmap: {
      const std::vector<int> mappings = model.mappings(command.process);
      if (mappings.empty()) return std::nullopt;
      command.number = one_of(mappings);
      return command;
    }
    default:
      return propose_of_descriptor(model, command);
  }
}

std::optional<Command> Chooser::propose_of_descriptor(const LockModel& model, Command command) {
  const std::vector<int> descriptors = model.descriptors(command.process);
  if (descriptors.empty()) return std::nullopt;
  command.number = one_of(descriptors);
  switch (command.kind) {
    case Kind::kMap:
      if (!model.readable(command.process, command.number)) return std::nullopt;
      command.made = ++last_made_;
      return command;
    case Kind::kFlock:
      command.flags = lock_operation();
      return command;
    case Kind::kFtruncate:
      return model.writable(command.process, command.number) ? std::optional(command) : std::nullopt;
    case Kind::kHandOver:
      command.other = one_of(model.processes(false));
      if (command.other == command.process) return std::nullopt;
      command.made = ++last_made_;
      return command;
    case Kind::kDup:
      command.made = ++last_made_;
      return command;
    default:
      return command;
  }
}

int Chooser::open_flags() {
  constexpr std::array kFlags{O_RDONLY,
                              O_RDONLY,
                              O_RDONLY,
                              O_RDONLY,
                              O_RDWR,
                              O_WRONLY,
                              O_RDWR | O_TRUNC,
                              O_RDWR | O_CREAT,
                              O_RDWR,
                              O_RDONLY | O_CREAT,
                              O_WRONLY | O_CREAT | O_TRUNC};
  return kFlags[dice(kFlags.size())] | (dice(10) == 0 ? O_NONBLOCK : 0);
}

int Chooser::lock_operation() {
  constexpr std::array kOperations{LOCK_SH, LOCK_EX, LOCK_EX, LOCK_UN, LOCK_SH | LOCK_NB, LOCK_EX | LOCK_NB, LOCK_UN};
  return kOperations[dice(kOperations.size())];
}

}  // namespace flockfs::test::model
