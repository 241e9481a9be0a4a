#include "status/process_tree.h"

#include <charconv>
#include <filesystem>
#include <fstream>
#include <map>
#include <string>
#include <system_error>

namespace flockfs {
namespace {

// Field 4 of /proc/PID/stat; the name before it is in parentheses and may be anything.
pid_t parent_of(const std::filesystem::path& process) {
  std::string stat;
  std::getline(std::ifstream(process / "stat"), stat, '\0');
  const std::size_t end = stat.rfind(") ");
  pid_t parent = 0;
  if (end == std::string::npos || end + 4 >= stat.size()) return 0;
  (void)std::from_chars(stat.data() + end + 4, stat.data() + stat.size(), parent);
  return parent;
}

}  // namespace

std::vector<pid_t> with_descendants(pid_t process) {
  std::multimap<pid_t, pid_t> children;
  std::error_code error;
  for (std::filesystem::directory_iterator entries("/proc", error), end; !error && entries != end;
       entries.increment(error)) {
    const std::string name = entries->path().filename();
    pid_t child = 0;
    const auto [rest, code] = std::from_chars(name.data(), name.data() + name.size(), child);
    if (code != std::errc{} || rest != name.data() + name.size()) continue;
    children.emplace(parent_of(entries->path()), child);
  }
  std::vector<pid_t> family{process};
  for (std::size_t next = 0; next < family.size(); ++next) {
    const auto [begin, end] = children.equal_range(family[next]);
    for (auto child = begin; child != end; ++child) family.push_back(child->second);
    if (family.size() > children.size() + 1) break;  // a number was given out anew meanwhile
  }
  return family;
}

}  // namespace flockfs
