#pragma once

#include <string_view>

namespace flockfs {

// Whether `path` is `directory` or below it, by whole components. Neither ends with a slash, but for the root
// directory, which may also be "".
[[nodiscard]] inline bool is_at_or_below(std::string_view path, std::string_view directory) {
  if (directory == "/") return path.starts_with('/');
  if (!path.starts_with(directory)) return false;
  return path.size() == directory.size() || path[directory.size()] == '/';
}

}  // namespace flockfs
