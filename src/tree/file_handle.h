#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "base/result.h"
#include "base/unique_fd.h"

namespace flockfs {

// The kernel's name for an object of a file system, good as long as the object exists (name_to_handle_at(2)): the
// handle's type (one byte) and its bytes.
using FileHandle = std::string;

// The handle of an open (or O_PATH) descriptor's object; nullopt where the file system has none.
std::optional<FileHandle> handle_of(int fd);

// Opens by handle: ESTALE when the object is gone. `mount_fd` is any object of the same mount, opened O_RDONLY. Needs
// CAP_DAC_READ_SEARCH in the first user namespace: not while acting as a client.
Result<UniqueFd> open_handle(int mount_fd, std::string_view handle, int flags);

// Whether this process can open by handle on the mount of `dir_fd` (a directory, O_RDONLY).
bool handles_work(int dir_fd);

}  // namespace flockfs
