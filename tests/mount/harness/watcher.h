#pragma once

#include <string>

namespace flockfs::test {

// Creates `count` files in the directory `mnt` of a mirror, each by an O_CREAT open that stays until a process on the
// side of the source has found the name there, opened it and tried LOCK_EX|LOCK_NB. Returns how many of these tries
// were granted: files that could be seen before they were locked. -1 (and a failure of the test) if it did not come to
// an end.
[[nodiscard]] int names_seen_unlocked(const std::string& mnt, const std::string& source, int count);

// Covers the directory with a tmpfs; the errno, or 0.
[[nodiscard]] int mount_tmpfs(const std::string& path);

}  // namespace flockfs::test
