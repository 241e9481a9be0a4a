#pragma once

#include <sys/types.h>

#include <optional>
#include <string>
#include <vector>

#include "base/unique_fd.h"
#include "harness/deadline.h"

namespace flockfs::test {

// A program that runs in the foreground of a terminal of its own, started as a shell with job control does it: by a
// session leader, which this is, in a process group of its own. Killed at the end. Used by the test's thread only.
class Terminal {
 public:
  Terminal(const std::vector<std::string>& command, const std::vector<std::string>& environment);
  ~Terminal();
  Terminal(const Terminal&) = delete;
  Terminal& operator=(const Terminal&) = delete;

  // What has been shown so far.
  [[nodiscard]] const std::string& shown();
  // The text is shown, or soon is.
  [[nodiscard]] bool shows(const std::string& text, Millis time = kPatience);
  void type(const std::string& keys);
  void resize(unsigned short columns);

  // What the shell sees of the job, once it sees it: "stopped 20", "exit 3", "signal 9"; empty: nothing in time.
  [[nodiscard]] std::string job(Millis time = kPatience);
  // Lets a stopped job go on in the foreground.
  void foreground();

 private:
  void drain();

  UniqueFd terminal_;
  UniqueFd orders_;   // to the shell
  UniqueFd reports_;  // of the shell
  pid_t shell_ = -1;
  std::string shown_;
};

}  // namespace flockfs::test
