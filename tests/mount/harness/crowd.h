#pragma once

#include <gtest/gtest.h>

#include <functional>

#include "base/unique_fd.h"
#include "harness/child.h"

namespace flockfs::test {

// Many processes that each do one thing, all in one process group that dies with the test. `work(i)` returns 0 or an
// errno. Used by the test's only thread.
class Crowd {
 public:
  Crowd(int size, const std::function<int(int index)>& work);

  // All have ended in time, each with 0.
  [[nodiscard]] ::testing::AssertionResult all_succeed(Millis time = kPatience * 4);
  // How many have ended by themselves so far.
  [[nodiscard]] int finished();
  // Sends the signal to each; all_gone() then waits until none is left.
  void signal(int number);
  [[nodiscard]] bool all_gone(Millis time = kPatience);

 private:
  void lead(Peer& test, int size, const std::function<int(int)>& work);

  int size_;
  int finished_ = 0;
  int failed_ = 0;
  int last_error_ = 0;
  UniqueFd write_end_;
  UniqueFd read_end_;  // one errno of each that ended by itself
  Child leader_;
};

}  // namespace flockfs::test
