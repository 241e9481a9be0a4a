#pragma once

#include <sys/types.h>

#include <string>

namespace flockfs {

// The process's command name, for people to read; empty if it is gone or cannot be seen. Thread-safe; reads
// /proc/PID/comm. The process chooses it: any bytes, 15 at most.
[[nodiscard]] std::string command_of(pid_t process);

}  // namespace flockfs
