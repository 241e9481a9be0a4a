#include "harness/users.h"

#include <grp.h>
#include <unistd.h>

#include <cerrno>
#include <system_error>

namespace flockfs::test {

void become_user(uid_t uid, gid_t gid, const std::vector<gid_t>& groups) {
  if (::setgroups(groups.size(), groups.data()) != 0 || ::setresgid(gid, gid, gid) != 0 ||
      ::setresuid(uid, uid, uid) != 0) {
    throw std::system_error(errno, std::generic_category(), "becoming another user");
  }
}

}  // namespace flockfs::test
