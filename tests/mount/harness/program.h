#pragma once

#include <gtest/gtest.h>
#include <sys/types.h>

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "base/unique_fd.h"
#include "harness/child.h"

namespace flockfs::test {

struct ProgramSetup {
  std::string directory{};                 // where it runs; empty: where the test runs
  std::vector<std::string> environment{};  // NAME=value, added
  std::function<void()> before_exec{};     // in the child; for limits, ids, namespaces
};

// A program that runs with its output caught; killed at the end. Dies with the test.
class Program {
 public:
  explicit Program(const std::vector<std::string>& command, const ProgramSetup& setup = {});

  [[nodiscard]] pid_t pid() const { return child_.pid(); }
  [[nodiscard]] Child& process() { return child_; }
  // What it has written so far; also while it runs.
  [[nodiscard]] std::string out() const;
  [[nodiscard]] std::string err() const;
  // Exit code once it has ended; 128 + signal when killed; -1 (and the connections aborted) if it does not end in time.
  [[nodiscard]] int exit_code(Millis time = kPatience);

 private:
  UniqueFd out_;
  UniqueFd err_;
  Child child_;
};

struct ProgramResult {
  int exit_code = -1;
  std::string out;
  std::string err;
};
std::ostream& operator<<(std::ostream& stream, const ProgramResult& result);

// Runs it to its end.
[[nodiscard]] ProgramResult run_program(const std::vector<std::string>& command, const ProgramSetup& setup = {},
                                        Millis time = kPatience);

// Full path of a program in $PATH, empty if there is none.
[[nodiscard]] std::string find_program(const std::string& name);

}  // namespace flockfs::test
