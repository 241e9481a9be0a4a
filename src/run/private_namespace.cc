#include "run/private_namespace.h"

#include <fcntl.h>
#include <sched.h>
#include <sys/mount.h>
#include <unistd.h>

#include <cerrno>
#include <string>
#include <string_view>

#include "base/unique_fd.h"

namespace flockfs {
namespace {

Status write_once(const char* path, std::string_view text) {
  const UniqueFd file(::open(path, O_WRONLY | O_CLOEXEC));
  if (!file || ::write(file.get(), text.data(), text.size()) != static_cast<ssize_t>(text.size())) {
    return errno_error(std::string("cannot write ") + path);
  }
  return {};
}

Error forbidden(int code, const std::string& detail) {
  std::string words = "this machine does not let ordinary users make namespaces (" + detail +
                      "), so only root can use flockfs-run here";
  switch (code) {
    case ENOSPC:
      words += "; the limit is in /proc/sys/user/max_user_namespaces";
      break;
    case EPERM:
    case EACCES:
      words +=
          "; see the sysctls kernel.unprivileged_userns_clone and kernel.apparmor_restrict_unprivileged_userns, or the "
          "container's seccomp profile";
      break;
    default:
      break;
  }
  return Error{0, words};
}

std::string reason(int code) { return Error{code, {}}.message(); }

// The same user and group inside as outside. The groups stay what they are to the kernel, and cannot be changed.
Status map_to_itself(uid_t uid, gid_t gid) {
  const auto line = [](unsigned id) { return std::to_string(id) + " " + std::to_string(id) + " 1\n"; };
  if (Status denied = write_once("/proc/self/setgroups", "deny"); !denied) return denied;
  if (Status mapped = write_once("/proc/self/uid_map", line(uid)); !mapped) return mapped;
  return write_once("/proc/self/gid_map", line(gid));
}

Status enter_user_namespace() {
  const uid_t uid = ::geteuid();
  const gid_t gid = ::getegid();
  if (::unshare(CLONE_NEWUSER | CLONE_NEWNS) != 0) return forbidden(errno, reason(errno));
  if (Status mapped = map_to_itself(uid, gid); !mapped) {
    return forbidden(mapped.error().code, mapped.error().message());
  }
  return {};
}

}  // namespace

Status enter_private_namespace() {
  if (::unshare(CLONE_NEWNS) != 0) {
    if (errno != EPERM) return errno_error("cannot make a mount namespace");
    if (Status entered = enter_user_namespace(); !entered) return entered;
  }
  // Where / is shared, a mount of ours would appear everywhere. What others unmount shall go here too.
  if (::mount(nullptr, "/", nullptr, MS_REC | MS_SLAVE, nullptr) != 0) {
    if (errno == EPERM || errno == EACCES) return forbidden(errno, reason(errno));
    if (errno == EINVAL) {
      return Error{0,
                   "the root directory here is no mount point (a chroot?), so the mirrors might be seen elsewhere; "
                   "'mount --bind DIR DIR' before chroot(8) makes it one"};
    }
    return errno_error("cannot make the mounts private");
  }
  return {};
}

}  // namespace flockfs
