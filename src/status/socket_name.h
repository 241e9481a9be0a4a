#pragma once

#include <sys/types.h>

#include <optional>
#include <string>
#include <string_view>

namespace flockfs {

// The name of a mirror's socket in the runtime directory: "status.MAJOR:MINOR.PID", by the device number of the mount,
// as mountinfo shows it, and the daemon. With the daemon's pid in it, because device numbers are used again: nobody
// takes another one's socket for its own.
struct SocketName {
  dev_t device = 0;
  pid_t daemon = 0;
  friend bool operator==(const SocketName&, const SocketName&) = default;
};

[[nodiscard]] std::string to_string(const SocketName& name);
[[nodiscard]] std::optional<SocketName> parse_socket_name(std::string_view text);

// "MAJOR:MINOR".
[[nodiscard]] std::string device_text(dev_t device);
[[nodiscard]] std::optional<dev_t> parse_device(std::string_view text);

}  // namespace flockfs
