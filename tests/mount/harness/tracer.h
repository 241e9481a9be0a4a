#pragma once

#include <sys/types.h>

#include <string>
#include <vector>

#include "harness/program.h"

namespace flockfs::test {

// Put into ProgramSetup::environment of a daemon that will be traced: the leak sanitizer cannot run in such a process.
inline constexpr const char* kTraceable = "LSAN_OPTIONS=detect_leaks=0";

// strace(1), attached to all threads of a process. Fails the test if it cannot attach.
class Tracer {
 public:
  // options: "-e", "trace=...", ...; `report` is the file for its lines.
  Tracer(pid_t process, const std::vector<std::string>& options, std::string report);

  // Detaches; returns what strace has written.
  [[nodiscard]] std::string stop();

 private:
  std::string report_;
  Program strace_;
};

// Some thread of the process has entered this system call and has not come out of it, or soon has.
[[nodiscard]] bool enters_call(pid_t process, int call_number, Millis time = kPatience);

}  // namespace flockfs::test
