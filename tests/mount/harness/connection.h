#pragma once

#include <optional>
#include <string>
#include <vector>

namespace flockfs::test {

// One line of /proc/self/mountinfo. Reading it asks no file system, so it cannot hang on a mirror.
struct MountEntry {
  unsigned minor = 0;  // of the device; the number of the FUSE connection
  std::string mountpoint;
  std::string mount_options;  // of this mount: ro, nodev, ...
  std::string type;
  std::string source;
  std::string super_options;
};

[[nodiscard]] std::vector<MountEntry> mount_table();

// The topmost mount at exactly this path.
[[nodiscard]] std::optional<MountEntry> find_mount(const std::string& mountpoint);

// The FUSE connections of this test, so that whoever sees a deadline pass can abort them: every request is answered
// ENOTCONN or ECONNABORTED then, and nothing hangs any longer. Used by the thread of the test only.
void remember_connection(unsigned number);
void forget_connection(unsigned number);
void abort_connections();

// Ends one connection through the kernel's control file system. False if it could not be done (it may be gone).
bool abort_connection(unsigned number);

// Of the control file system: how many requests the kernel has sent or queued that are not answered yet.
[[nodiscard]] std::optional<int> requests_waiting(unsigned number);

}  // namespace flockfs::test
