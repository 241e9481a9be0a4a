#pragma once

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <set>
#include <string_view>
#include <utility>
#include <vector>

#include "base/clock.h"

namespace flockfs {

// A file of the mirror as /proc/PID/maps shows it: the mirror's device and the inode number that the mirror shows.
using MappedFile = std::pair<dev_t, ino_t>;

// The file mapped by one line of /proc/PID/maps; {0, 0} for anonymous memory and what is no such line.
[[nodiscard]] MappedFile parse_maps_line(std::string_view line);

// Reads what processes have mapped of one mirror. Not synchronised: one thread. Reads /proc, so: off every reply's path.
class Mappings {
 public:
  explicit Mappings(dev_t mirror) : mirror_(mirror) {}

  // The inode numbers of the mirror that `process` and its descendants have mapped. If the process is gone, or another one
  // has its number (it started after `opened_at`, CLOCK_BOOTTIME), whoever it was may have left the mapping to a child that has
  // another parent now: then those of all processes, read once for all such questions since begin().
  [[nodiscard]] std::set<ino_t> of(pid_t process, std::int64_t opened_at_ns);

  // A new round of questions: what was read of all processes is out of date.
  void begin() { all_.reset(); }

 private:
  void add_process(pid_t process, std::set<ino_t>& found);
  void add_descendants(pid_t process, std::set<ino_t>& found);
  const std::set<ino_t>& all();

  const dev_t mirror_;
  std::vector<char> buffer_;
  std::optional<std::set<ino_t>> all_;
};

}  // namespace flockfs
