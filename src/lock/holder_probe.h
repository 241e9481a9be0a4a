#pragma once

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>

#include "lock/file_id.h"

namespace flockfs {

// What a process has of one file of the mirror, as /proc shows it.
struct Holding {
  std::size_t descriptions = 0;  // open file descriptions among its descriptors, O_PATH ones not counted
  bool mapped = false;
  bool in_doubt = false;  // some of it may be of an open without a lock
  [[nodiscard]] bool any() const { return descriptions != 0 || mapped; }
};

// A file's number in the mirror, as /proc shows it; 0 is none.
using FileNumber = std::uint64_t;

// What the kernel says of a process.
struct ProcessState {
  std::size_t threads = 0;
  bool catches_alarm = false;  // it has a handler for SIGALRM, which may be about to end what it waits for
};

// Looks at client processes to see whether they hold what they are thought to hold (DESIGN 1.6, 1.7): descriptors are
// inherited, handed over and closed without a word to us. Thread-safe. Reads /proc: not for FUSE workers.
class HolderProbe {
 public:
  virtual ~HolderProbe() = default;

  // nullopt if the process cannot be seen.
  virtual std::optional<Holding> holding(pid_t process, const FileId& file) = 0;

  // The same of all files of which it has anything.
  virtual std::optional<std::map<FileNumber, Holding>> holdings(pid_t process) = 0;
  virtual FileNumber number_of(const FileId& file) = 0;

  // nullopt if it cannot be seen.
  virtual std::optional<ProcessState> state(pid_t process) = 0;
};

}  // namespace flockfs
