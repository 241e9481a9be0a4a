#pragma once

#include <string_view>

#include "base/result.h"
#include "base/unique_fd.h"

namespace flockfs {

enum class Missing { kMake, kLeave };

// Where a mirror keeps what lives no longer than the machine runs: /run/flockfs, for an ordinary user
// $XDG_RUNTIME_DIR/flockfs. A directory of this user that nobody else may enter; no symlink is followed to it, and what
// somebody else has put in its place is refused. `purpose`, for messages: what is to be kept there.
[[nodiscard]] Result<UniqueFd> open_runtime_directory(Missing missing, std::string_view purpose);

}  // namespace flockfs
