#pragma once

#include <fcntl.h>

#include <cstdint>
#include <string_view>

namespace flockfs {

enum class LockMode : std::uint8_t { kShared, kExclusive };

// The lock an open(2) with these flags needs (DESIGN 1.1): shared for O_RDONLY, exclusive otherwise (access mode 3,
// which Linux takes for "ioctl only", checks for both rights and so counts as writing; and Linux truncates with
// O_RDONLY|O_TRUNC).
[[nodiscard]] constexpr LockMode lock_mode_for_open(int open_flags) {
  const bool reads_only = (open_flags & O_ACCMODE) == O_RDONLY && (open_flags & O_TRUNC) == 0;
  return reads_only ? LockMode::kShared : LockMode::kExclusive;
}

[[nodiscard]] constexpr std::string_view to_string(LockMode mode) {
  return mode == LockMode::kShared ? "shared" : "exclusive";
}

// Whether somebody who holds a lock of one mode keeps another from one of the other.
[[nodiscard]] constexpr bool in_the_way(LockMode holder, LockMode wanted) {
  return wanted == LockMode::kExclusive || holder == LockMode::kExclusive;
}

}  // namespace flockfs
