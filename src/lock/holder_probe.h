#pragma once

#include <sys/types.h>

#include <cstddef>
#include <optional>

#include "lock/file_id.h"

namespace flockfs {

// What a process has of one file of the mirror, as /proc shows it.
struct Holding {
  std::size_t descriptions = 0;  // open file descriptions among its descriptors, O_PATH ones not counted
  bool mapped = false;
  [[nodiscard]] bool any() const { return descriptions != 0 || mapped; }
};

// Looks at client processes to see whether they hold what they are thought to hold (DESIGN 1.6, 1.7): descriptors are
// inherited, handed over and closed without a word to us. Thread-safe. Reads /proc: not for FUSE workers.
class HolderProbe {
 public:
  virtual ~HolderProbe() = default;

  // nullopt if the process cannot be seen.
  virtual std::optional<Holding> holding(pid_t process, const FileId& file) = 0;

  // How many threads it has; nullopt if it cannot be seen.
  virtual std::optional<std::size_t> threads(pid_t process) = 0;
};

}  // namespace flockfs
