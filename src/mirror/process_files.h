#pragma once

#include <sys/types.h>

namespace flockfs {

enum class HasOpen { kNo, kYes, kUnknown };

// Whether one of the process's descriptors is of the file that the mirror (its device) shows under this inode number.
// Mappings are not looked at. kUnknown: the process cannot be seen. Thread-safe. Reads /proc/PID/fdinfo, never
// /proc/PID/fd (a stat there would ask the mirror itself), so: not for FUSE workers.
[[nodiscard]] HasOpen has_open(pid_t process, dev_t mirror, ino_t shown_ino);

}  // namespace flockfs
