#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace flockfs::test {

// Files that tell whether a copy of them is whole: every 32 bytes say of which version they are, in which block of how
// many. A copy is whole if all of its blocks are there and of one version.

struct StampedVersion {
  std::uint64_t version = 0;
  std::uint64_t blocks = 1;
};

inline constexpr std::size_t kStampedBlock = 8192;

void make_stamped_file(const std::string& path, const StampedVersion& contents);

// What a well-behaved application does with a file of the source: open, flock(LOCK_EX), write it anew in many write(2)s
// and without truncating it first, cut it to its size, unlock by closing. Throws if something fails.
void rewrite_stamped_file(const std::string& path, const StampedVersion& contents);

// Why the bytes are no whole file; nullopt if they are one.
[[nodiscard]] std::optional<std::string> flaw_of(std::string_view bytes);

}  // namespace flockfs::test
