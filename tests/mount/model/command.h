#pragma once

#include <string>

namespace flockfs::test::model {

// One step of a schedule. Processes have numbers, and so has everything that they get: whoever opens says which number
// the descriptor is to have. Numbers are never used twice in a schedule.
struct Command {
  enum class Kind {
    kOpen,            // process, name, flags; made: the descriptor
    kClose,           // process, number
    kDup,             // process, number; made
    kFork,            // process; made: the child's number
    kHandOver,        // process, number, other: who gets it; made: what it is there. The sender keeps its own
    kMap,             // process, number; made: the mapping
    kUnmap,           // process, number of the mapping
    kKill,            // process
    kSignal,          // process, which waits: a signal that it catches
    kFlock,           // process, number, flags: the operation
    kTruncate,        // process, name: by path
    kFtruncate,       // process, number
    kUnlink,          // process, name
    kCloseAll,        // process
    kReplace,         // name, on the source: written aside, renamed over
    kRemove,          // name, on the source
    kOutsideTry,      // name, flags: the operation, with LOCK_NB; made: the lock, if it is granted
    kOutsideRelease,  // number
  };
  Kind kind = Kind::kOpen;
  int process = 0;
  int number = 0;
  int made = 0;
  int other = 0;
  int flags = 0;
  std::string name{};
};

[[nodiscard]] std::string describe(const Command& command);

}  // namespace flockfs::test::model
