#include "model/command.h"

#include <fcntl.h>
#include <sys/file.h>

namespace flockfs::test::model {
namespace {

std::string open_flags(int flags) {
  const int access = flags & O_ACCMODE;
  std::string text = access == O_RDONLY ? "O_RDONLY" : access == O_WRONLY ? "O_WRONLY" : "O_RDWR";
  if ((flags & O_TRUNC) != 0) text += "|O_TRUNC";
  if ((flags & O_CREAT) != 0) text += "|O_CREAT";
  if ((flags & O_NONBLOCK) != 0) text += "|O_NONBLOCK";
  return text;
}

std::string lock_operation(int operation) {
  const int what = operation & ~LOCK_NB;
  const std::string text = what == LOCK_SH ? "LOCK_SH" : what == LOCK_EX ? "LOCK_EX" : "LOCK_UN";
  return (operation & LOCK_NB) != 0 ? text + "|LOCK_NB" : text;
}

}  // namespace

std::string describe(const Command& command) {
  using Kind = Command::Kind;
  const std::string who = "p" + std::to_string(command.process) + " ";
  const std::string number = std::to_string(command.number);
  const std::string made = std::to_string(command.made);
  switch (command.kind) {
    case Kind::kOpen:
      return who + "open(" + command.name + ", " + open_flags(command.flags) + ") as d" + made;
    case Kind::kClose:
      return who + "close(d" + number + ")";
    case Kind::kDup:
      return who + "dup(d" + number + ") as d" + made;
    case Kind::kFork:
      return who + "fork() as p" + made;
    case Kind::kHandOver:
      return who + "hands d" + number + " to p" + std::to_string(command.other) + " as d" + made;
    case Kind::kMap:
      return who + "mmap(d" + number + ") as m" + made;
    case Kind::kUnmap:
      return who + "munmap(m" + number + ")";
    case Kind::kKill:
      return who + "is killed";
    case Kind::kSignal:
      return who + "catches a signal";
    case Kind::kFlock:
      return who + "flock(d" + number + ", " + lock_operation(command.flags) + ")";
    case Kind::kTruncate:
      return who + "truncate(" + command.name + ")";
    case Kind::kFtruncate:
      return who + "ftruncate(d" + number + ")";
    case Kind::kUnlink:
      return who + "unlink(" + command.name + ")";
    case Kind::kCloseAll:
      return who + "closes all";
    case Kind::kReplace:
      return "outside: rename(new, " + command.name + ")";
    case Kind::kRemove:
      return "outside: unlink(" + command.name + ")";
    case Kind::kOutsideTry:
      return "outside: flock(" + command.name + ", " + lock_operation(command.flags) + ") as o" + made;
    case Kind::kOutsideRelease:
      return "outside: o" + number + " unlocks";
  }
  return {};
}

}  // namespace flockfs::test::model
