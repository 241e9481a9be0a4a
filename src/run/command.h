#pragma once

#include <sys/types.h>

#include <atomic>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "run/place.h"
#include "run/shared_memory.h"
#include "run/witness.h"

namespace flockfs {

class CallerState;

// COMMAND: a child in the runner's own process group, so that the terminal and the shell treat it as they would without
// the runner. It dies with the runner. Move-only; used by the runner's thread.
class Command {
 public:
  // Forks. Whatever keeps it from running is said on stderr by the child, and is its exit status (RunExit).
  static Result<Command> start(const std::vector<std::string>& words, const Place& place, const CallerState& caller);

  // After SIGCHLD: sees whether it has ended. At a terminal, stops when it has been stopped, until a shell has both go
  // on.
  void look();
  // Once it has ended: waitpid(2)'s status.
  [[nodiscard]] const std::optional<int>& status() const { return status_; }
  // Whether it was COMMAND that ended, not what was to become it.
  [[nodiscard]] bool has_run() const { return !failed_->load(); }

  // The runner got a signal: hands it on, unless COMMAND has got it as well.
  void hand_on(int signal);

 private:
  Command(pid_t pid, SharedMemory<std::atomic<bool>> failed, Witness witness)
      : pid_(pid), failed_(std::move(failed)), witness_(std::move(witness)) {}

  pid_t pid_;
  SharedMemory<std::atomic<bool>> failed_;
  Witness witness_;
  std::optional<int> status_;
};

}  // namespace flockfs
