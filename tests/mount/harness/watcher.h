#pragma once

#include <functional>
#include <string>

namespace flockfs::test {

// Creates `count` files in the directory `mnt` of a mirror, each by an O_CREAT open that stays until a process on the
// side of the source has found the name there, opened it and asked whether it could lock it: by LOCK_EX|LOCK_NB, or as
// `is_locked` says. Returns how often it could: files that could be seen before they were locked. -1 (and a failure of
// the test) if it did not come to an end.
using IsLocked = std::function<bool(int fd)>;
[[nodiscard]] bool has_flock(int fd);
[[nodiscard]] int names_seen_unlocked(const std::string& mnt, const std::string& source, int count,
                                      const IsLocked& is_locked = has_flock);

}  // namespace flockfs::test
