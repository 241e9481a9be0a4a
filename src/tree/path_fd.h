#pragma once

#include <cstdio>
#include <memory>
#include <utility>

#include "base/unique_fd.h"

namespace flockfs {

// A descriptor good for *at() calls and stat (O_PATH at least): opened for this use, or shared with others.
class PathFd {
 public:
  explicit PathFd(std::shared_ptr<const UniqueFd> shared) : fd_(shared->get()), shared_(std::move(shared)) {}
  explicit PathFd(UniqueFd owned) : fd_(owned.get()), owned_(std::move(owned)) {}
  // One that is open as long as `owner` lives.
  PathFd(std::shared_ptr<const void> owner, int fd) : fd_(fd), shared_(std::move(owner)) {}
  [[nodiscard]] int get() const { return fd_; }

 private:
  int fd_;
  std::shared_ptr<const void> shared_;
  UniqueFd owned_;
};

// "/proc/self/fd/N": for the calls that take no descriptor of an O_PATH file; resolving it never leaves the object.
class ProcFdPath {
 public:
  explicit ProcFdPath(int fd) { std::snprintf(text_, sizeof text_, "/proc/self/fd/%d", fd); }
  [[nodiscard]] const char* c_str() const { return text_; }

 private:
  char text_[32];
};

}  // namespace flockfs
