#pragma once

#include <sys/types.h>

#include <cstdint>
#include <unordered_map>
#include <vector>

#include "harness/deadline.h"

namespace flockfs::test {

// Takes a thread of a daemon through its work instruction by instruction (ptrace(2)): what it executes in user mode
// does not depend on how fast or how busy the machine is. Of the thread that made it; on x86-64 only.
class Stepper {
 public:
  [[nodiscard]] static bool possible();

  // Stops the thread. Throws if that cannot be done.
  explicit Stepper(pid_t thread);
  ~Stepper();  // lets it go on
  Stepper(const Stepper&) = delete;
  Stepper& operator=(const Stepper&) = delete;

  struct Handled {
    std::uint32_t opcode = 0;  // of the request (linux/fuse.h)
    long instructions = 0;     // from the return of the read(2) that brought it until the thread looks for another
  };
  // The next `count` requests that it reads from /dev/fuse. Fewer if they do not come in time.
  [[nodiscard]] std::vector<Handled> requests(std::size_t count, Millis time = kPatience);

 private:
  [[nodiscard]] bool step(const Deadline& deadline);
  [[nodiscard]] bool wait_for_stop(const Deadline& deadline);
  [[nodiscard]] bool is_system_call(unsigned long long at);

  const pid_t thread_;
  unsigned long long device_ = 0;  // the descriptor of /dev/fuse
  int pass_on_ = 0;                // a signal of the thread's own
  bool ended_ = false;
  std::unordered_map<unsigned long long, bool> system_calls_;  // by address
};

// The threads of a process with this name.
[[nodiscard]] std::vector<pid_t> threads_named(pid_t process, const std::string& name);

}  // namespace flockfs::test
