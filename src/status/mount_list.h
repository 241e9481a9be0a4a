#pragma once

#include <sys/types.h>

#include <string>
#include <string_view>
#include <vector>

namespace flockfs {

// A mirror in a mount table.
struct ListedMirror {
  dev_t device = 0;
  std::string mountpoint;
  uid_t user = 0;  // that mounted it
  int mount = 0;   // mnt_id of /proc/PID/fdinfo/FD
  friend bool operator==(const ListedMirror&, const ListedMirror&) = default;
};

// The mirrors in the text of a /proc/PID/mountinfo, in its order: of several at one place the last is the one on top.
[[nodiscard]] std::vector<ListedMirror> parse_mirrors(std::string_view mountinfo);

// Those that a process sees ("self" or its number); none if its table cannot be read.
[[nodiscard]] std::vector<ListedMirror> mirrors_of(const std::string& process);

}  // namespace flockfs
