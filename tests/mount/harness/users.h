#pragma once

#include <sys/types.h>

#include <string>
#include <vector>

namespace flockfs::test {

// An ordinary user of whom the system need not know.
inline constexpr uid_t kStranger = 12345;
inline constexpr gid_t kStrangerGroup = 12346;
inline constexpr gid_t kTeam = 5555;  // a supplementary group for the tests that need one

// Makes the calling process (a child of the test) this user for good, without any capability. Throws if it cannot.
void become_user(uid_t uid = kStranger, gid_t gid = kStrangerGroup, const std::vector<gid_t>& groups = {});

// Then: a user and a mount namespace of its own, as `unshare --user --map-current-user --keep-caps --mount` makes them.
// The user is still itself there, and has all capabilities, which programs that it starts inherit.
void enter_own_namespaces();

// The value of security.capability that means cap_net_raw=ep.
[[nodiscard]] std::string net_raw_capability();

}  // namespace flockfs::test
