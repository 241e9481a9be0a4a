#pragma once

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string>

#include "base/command_name.h"

namespace flockfs {

// The process of a thread that sent a request (the kernel gives the thread's id); 0 if it cannot be seen from here. To
// be asked while the request is unanswered: later the thread may be gone. Thread-safe; costs next to nothing
// for a process's first thread.
[[nodiscard]] pid_t process_of(pid_t tid);

// The umask of a thread; the usual one if that cannot be seen. Reads /proc/TID/status.
[[nodiscard]] mode_t umask_of(pid_t tid);

// The kind of system call that a thread, whose request is unanswered, is in. Reads /proc/TID/syscall.
enum class Calling : std::uint8_t {
  kByPath,          // opens, executes or truncates a file by its path
  k32BitOpen,       // by the number it may be a 32-bit program's open(2), or a call that opens nothing
  kFileAttributes,  // asks for file attributes as chattr(1) sets them, or sets them
  kUnknown,         // another, or it may not be seen
};
[[nodiscard]] Calling calling(pid_t tid);

// A system call of a client at the moment before it is answered, to tell later whether the client's kernel code has
// taken the answer in. Reads /proc.
class AnsweredCall {
 public:
  // The thread sleeps in the call: it is to be asked before the answer.
  AnsweredCall(pid_t tid, long number);
  // Whether it certainly has: the thread is in another call or gone, or has run for longer than that takes. On a busy
  // machine an answered thread may not run for a long time.
  [[nodiscard]] bool taken_in() const;

 private:
  pid_t tid_;
  long number_;
  std::optional<std::uint64_t> run_ns_;
};

}  // namespace flockfs
