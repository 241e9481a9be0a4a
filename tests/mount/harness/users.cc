#include "harness/users.h"

#include <grp.h>
#include <linux/capability.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <string>
#include <system_error>

#include "harness/files.h"

namespace flockfs::test {
namespace {

void require(bool good, const char* what) {
  if (!good) throw std::system_error(errno, std::generic_category(), what);
}

// execve(2) takes all capabilities from who is not root, but for the ambient ones.
void keep_capabilities_on_exec() {
  __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
  std::array<__user_cap_data_struct, _LINUX_CAPABILITY_U32S_3> data{};
  require(::syscall(SYS_capget, &header, data.data()) == 0, "capget");
  for (auto& word : data) word.inheritable = word.permitted;
  require(::syscall(SYS_capset, &header, data.data()) == 0, "capset");
  for (unsigned capability = 0; capability <= CAP_LAST_CAP; ++capability) {
    if ((data[capability / 32].permitted & 1U << capability % 32) == 0) continue;
    require(::prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, capability, 0, 0) == 0, "PR_CAP_AMBIENT_RAISE");
  }
}

}  // namespace

void become_user(uid_t uid, gid_t gid, const std::vector<gid_t>& groups) {
  if (::setgroups(groups.size(), groups.data()) != 0 || ::setresgid(gid, gid, gid) != 0 ||
      ::setresuid(uid, uid, uid) != 0) {
    throw std::system_error(errno, std::generic_category(), "becoming another user");
  }
}

void enter_own_namespaces() {
  const auto to_itself = [](unsigned id) { return std::to_string(id) + " " + std::to_string(id) + " 1"; };
  const std::string uid_map = to_itself(::geteuid());
  const std::string gid_map = to_itself(::getegid());
  require(::prctl(PR_SET_DUMPABLE, 1) == 0, "PR_SET_DUMPABLE");  // else its own /proc/self belongs to root
  require(::unshare(CLONE_NEWUSER | CLONE_NEWNS) == 0, "unshare");
  write_file("/proc/self/setgroups", "deny");
  write_file("/proc/self/uid_map", uid_map);
  write_file("/proc/self/gid_map", gid_map);
  keep_capabilities_on_exec();
}

std::string net_raw_capability() {
  vfs_cap_data data{};
  data.magic_etc = VFS_CAP_REVISION_2 | VFS_CAP_FLAGS_EFFECTIVE;
  data.data[0].permitted = 1U << CAP_NET_RAW;
  return {reinterpret_cast<const char*>(&data), XATTR_CAPS_SZ_2};
}

}  // namespace flockfs::test
