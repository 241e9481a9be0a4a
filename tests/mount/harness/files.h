#pragma once

#include <sys/stat.h>
#include <sys/types.h>

#include <string>
#include <string_view>
#include <vector>

#include "base/unique_fd.h"

namespace flockfs::test {

// Small file helpers. Those that return void throw std::system_error naming the path. Paths on a mirror: in children
// only.

void write_file(const std::string& path, std::string_view contents, mode_t mode = 0644);
void append_file(const std::string& path, std::string_view contents);
[[nodiscard]] std::string read_file(const std::string& path);
// From an open descriptor, from its start.
[[nodiscard]] std::string read_all(int fd);
[[nodiscard]] struct stat stat_of(const std::string& path);                // follows no symlink
[[nodiscard]] bool exists(const std::string& path);                        // follows no symlink
void make_dir(const std::string& path, mode_t mode = 0755);                // exactly this mode, whatever the umask
[[nodiscard]] std::vector<std::string> list_dir(const std::string& path);  // sorted, without . and ..

// open(2); throws if it fails.
[[nodiscard]] UniqueFd open_file(const std::string& path, int flags, mode_t mode = 0644);
// 0, or the errno with which open(2) failed; closes what it opened.
[[nodiscard]] int open_error(const std::string& path, int flags, mode_t mode = 0644);

// "EAGAIN"; for messages between processes and in failures.
[[nodiscard]] std::string errno_name(int code);

// A directory of its own for each test, below $TMPDIR or /var/tmp; removed at the end, but never a mount in it.
class TempTree {
 public:
  TempTree();
  ~TempTree();
  TempTree(const TempTree&) = delete;
  TempTree& operator=(const TempTree&) = delete;
  [[nodiscard]] const std::string& path() const { return path_; }
  [[nodiscard]] std::string operator/(std::string_view name) const { return path_ + "/" + std::string(name); }

 private:
  std::string path_;
};

}  // namespace flockfs::test
