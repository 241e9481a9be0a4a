#pragma once

#include <cstdio>
#include <memory>
#include <utility>

#include "base/unique_fd.h"

namespace flockfs {

// A descriptor good for *at() calls and stat (O_PATH): opened for this use, or shared with others.
class PathFd {
 public:
  explicit PathFd(std::shared_ptr<const UniqueFd> shared) : shared_(std::move(shared)), fd_(shared_->get()) {}
  explicit PathFd(UniqueFd owned) : owned_(std::move(owned)), fd_(owned_.get()) {}
  [[nodiscard]] int get() const { return fd_; }

 private:
  std::shared_ptr<const UniqueFd> shared_;
  UniqueFd owned_;
  int fd_;
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
