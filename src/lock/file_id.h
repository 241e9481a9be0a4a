#pragma once

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <functional>

namespace flockfs {

// A file of the source as the kernel's lock lists name it. Unique while somebody has the file open.
struct FileId {
  dev_t dev = 0;
  ino_t ino = 0;
  friend bool operator==(const FileId&, const FileId&) = default;
  friend bool operator<(const FileId& one, const FileId& other) {
    return one.dev != other.dev ? one.dev < other.dev : one.ino < other.ino;
  }
};

struct FileIdHash {
  std::size_t operator()(const FileId& id) const {
    return std::hash<std::uint64_t>{}(id.ino * 0x9E3779B97F4A7C15ULL ^ id.dev);
  }
};

// A client process: the thread group and when it started (field 22 of /proc/PID/stat, clock ticks since boot; 0 if not
// looked up), so that a reused pid is somebody else. tgid 0: a process that cannot be seen from here.
struct Owner {
  pid_t tgid = 0;
  std::uint64_t start_time = 0;
  friend bool operator==(const Owner&, const Owner&) = default;
};

}  // namespace flockfs
