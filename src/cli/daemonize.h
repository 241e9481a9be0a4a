#pragma once

#include <string>
#include <variant>

#include "base/result.h"
#include "base/unique_fd.h"
#include "cli/exit_code.h"

namespace flockfs {

// Opens /dev/null in place of standard descriptors that the caller has closed, so that none of ours gets their numbers.
// REQUIRES: nothing else has been opened.
void fill_standard_descriptors();

// The way to the person who started flockfs, until the mirror is usable. Used by one thread.
class Startup {
 public:
  // In the foreground there is nobody to tell but stderr.
  static Startup in_foreground() { return Startup(UniqueFd()); }

  // The mirror is usable. In the background: stdin, stdout and stderr become /dev/null, the waiting caller is told and
  // exits with 0. False if the caller is gone: nobody knows of this mirror, so it should not stay.
  [[nodiscard]] bool ready();

  // Tells why there will be no mirror. Returns `code`, for main() to return.
  ExitCode fail(ExitCode code, const std::string& message);

 private:
  friend std::variant<struct StartOutcome, Startup> start_in_background();
  explicit Startup(UniqueFd report) : report_(std::move(report)) {}

  UniqueFd report_;  // the pipe to the caller; none in the foreground, and once it has been told
};

// How a start in the background ended, for the caller to print and to exit with.
struct StartOutcome {
  ExitCode code = kExitOk;
  std::string message;  // empty if the code is kExitOk
};

// Forks. The daemon (with a session of its own, "/" as its working directory and no descriptor of the caller but the
// standard ones) gets a Startup; the caller waits for its word, or its death, and gets the outcome.
// REQUIRES: one thread only; nothing opened yet.
std::variant<StartOutcome, Startup> start_in_background();

}  // namespace flockfs
