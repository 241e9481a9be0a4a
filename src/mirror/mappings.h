#pragma once

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <set>
#include <string_view>
#include <utility>
#include <vector>

#include "base/clock.h"
#include "mirror/recent_processes.h"

namespace flockfs {

// A file of the mirror as /proc/PID/maps shows it: the mirror's device and the inode number that the mirror shows.
using MappedFile = std::pair<dev_t, ino_t>;

// The file mapped by one line of /proc/PID/maps; {0, 0} for anonymous memory and what is no such line.
[[nodiscard]] MappedFile parse_maps_line(std::string_view line);

// Reads what processes have mapped of one mirror. Not synchronised: one thread. Reads /proc, so: off every reply's
// path.
class Mappings {
 public:
  explicit Mappings(dev_t mirror) : mirror_(mirror) {}

  // A new round of questions, about files whose RELEASE has come: what was read of all processes is out of date.
  void begin(std::int64_t now_ns);

  // The inode numbers of the mirror that `process`, which opened a file at `opened_at_ns` (CLOCK_BOOTTIME), and those
  // who may have inherited a mapping from it have mapped: who was made since then. Where that is not known, all
  // processes, read once for all such questions of a round. nullopt when /proc could not be read (no descriptor, no
  // memory): nothing is known then.
  //
  // RELEASE means that no descriptor of the file is left, so nobody can map it any more but by inheriting a mapping:
  // each process is looked at, and then those who were made meanwhile, until there are none. A process that is older
  // than the open and was handed the descriptor (SCM_RIGHTS) is met only by the second way (DESIGN 4.6).
  [[nodiscard]] std::optional<std::set<ino_t>> of(pid_t process, std::int64_t opened_at_ns);

 private:
  bool add_recent(pid_t process, std::int64_t opened_at_ns, std::set<ino_t>& found);
  void add_process(pid_t process, std::set<ino_t>& found);
  std::set<ino_t> all();

  const dev_t mirror_;
  RecentProcesses recent_;
  std::int64_t now_ns_ = 0;
  std::vector<char> buffer_;
  std::optional<std::set<ino_t>> all_;
  bool blind_ = false;  // something could not be read since the question was asked
};

}  // namespace flockfs
