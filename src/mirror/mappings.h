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

  // The inode numbers of the mirror that `process` and those who may have inherited a mapping from it have mapped: who
  // was made since it opened the file (at `opened_at_ns`, CLOCK_BOOTTIME); where that is not known, its descendants;
  // and if it is gone (or another has its number: it started later), so that a child of it may have another parent by
  // now, all processes, read once for all such questions of a round. nullopt when /proc could not be read (no
  // descriptor, no memory): nothing is known then.
  [[nodiscard]] std::optional<std::set<ino_t>> of(pid_t process, std::int64_t opened_at_ns);

 private:
  std::set<ino_t> inherited_from(pid_t process, std::int64_t opened_at_ns);
  bool lacks(const UniqueFd& fd);
  void add_process(pid_t process, std::set<ino_t>& found);
  void add_descendants(pid_t process, std::set<ino_t>& found);
  std::set<ino_t> all();

  const dev_t mirror_;
  RecentProcesses recent_;
  std::int64_t now_ns_ = 0;
  std::vector<char> buffer_;
  std::optional<std::set<ino_t>> all_;
  bool blind_ = false;  // something could not be read since the question was asked
};

}  // namespace flockfs
