#pragma once

#include <sys/socket.h>

#include <string>
#include <vector>

#include "base/result.h"
#include "base/unique_fd.h"

namespace flockfs {

// Unix sockets in a directory that is open: whatever is mounted over its path meanwhile, and however long that is.

// Binds and listens under a name that nobody has; what connects before this returns is not refused.
[[nodiscard]] Result<UniqueFd> listen_in(int directory, const std::string& name, int backlog);

// A listener that does not accept is waited for some seconds, or not at all (EAGAIN). ECONNREFUSED: nobody listens
// there any more.
enum class Patience { kSomeSeconds, kNone };
[[nodiscard]] Result<UniqueFd> connect_in(int directory, const std::string& name,
                                          Patience patience = Patience::kSomeSeconds);

// The same for sockets that have their name in no file system (unix(7), abstract): they are gone with their process,
// but anybody may connect, and take a name. All of this machine's network namespace.
[[nodiscard]] Result<UniqueFd> listen_abstract(const std::string& name, int backlog);
[[nodiscard]] Result<UniqueFd> connect_abstract(const std::string& name);
[[nodiscard]] std::vector<std::string> abstract_names();

// Who is at the other end, or (for one who has connected) listens there.
[[nodiscard]] Result<ucred> peer_of(int socket);

// The names in a directory; empty if it cannot be read.
[[nodiscard]] std::vector<std::string> names_in(int directory);

}  // namespace flockfs
