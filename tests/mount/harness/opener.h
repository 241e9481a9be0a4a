#pragma once

#include <gtest/gtest.h>
#include <sys/types.h>

#include <functional>
#include <string>
#include <string_view>

#include "harness/child.h"

namespace flockfs::test {

// A child that opens one path and keeps it open until close(); the usual client of these tests.
class Opener {
 public:
  Opener(std::string path, int flags, mode_t mode = 0644);
  // Opens by calling this, which returns a descriptor, or -1 and errno.
  explicit Opener(const std::function<int()>& open);

  [[nodiscard]] pid_t pid() const { return child_.pid(); }
  [[nodiscard]] Child& child() { return child_; }

  // open(2) has returned a descriptor, or does in time.
  [[nodiscard]] ::testing::AssertionResult opens(Millis time = kPatience);
  // open(2) has failed, or does in time, with this errno.
  [[nodiscard]] ::testing::AssertionResult fails_with(int code, Millis time = kPatience);
  // open(2) has not returned yet. Ask after MountedMirror::waits(): then it is not just slow.
  [[nodiscard]] bool is_waiting() { return child_.silent(); }

  // After opens(): what the file holds now, through the open descriptor.
  [[nodiscard]] std::string contents();
  // After opens(): writes at the offset of the descriptor; true if all was written.
  [[nodiscard]] bool write(std::string_view text);
  // After opens(): returns when close(2) has returned and the child has ended.
  void close();

 private:
  Child child_;
};

}  // namespace flockfs::test
