#include "mirror/device.h"

#include <fcntl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <cstdio>
#include <string_view>

namespace flockfs {
namespace {

// The attributes the kernel has at hand, without asking the file system, which is us: before INIT is answered, or while
// all workers are gone, asking would wait for ever.
bool look_at(const std::string& path, MountPoint& there) {
  constexpr unsigned kMountIdUnique = 0x4000;  // STATX_MNT_ID_UNIQUE
  struct statx info {};
  constexpr int kFlags = AT_STATX_DONT_SYNC | AT_NO_AUTOMOUNT | AT_SYMLINK_NOFOLLOW;
  // The root directory is what it was before something was mounted over it; its ".." is what is there now.
  const char* const there_now = path == "/" ? "/.." : path.c_str();
  if (::statx(AT_FDCWD, there_now, kFlags, STATX_MNT_ID | kMountIdUnique, &info) != 0) return false;
  there.dev = makedev(info.stx_dev_major, info.stx_dev_minor);
  there.id = info.stx_mnt_id;
  return true;
}

}  // namespace

Result<UniqueFd> open_fuse_device() {
  UniqueFd device(::open("/dev/fuse", O_RDWR | O_CLOEXEC));
  if (device) return device;
  switch (errno) {
    case ENOENT:
    case ENODEV:
    case ENXIO:
      return errno_error("cannot open /dev/fuse (is the kernel module loaded? try 'modprobe fuse')");
    case EACCES:
    case EPERM:
      return errno_error("cannot open /dev/fuse (its permissions do not let this user)");
    default:
      return errno_error("cannot open /dev/fuse");
  }
}

Result<MountPoint> mount_fuse(const MirrorConfig& config, int device) {
  char options[160];
  std::snprintf(options, sizeof options, "fd=%d,rootmode=40000,user_id=%u,group_id=%u,default_permissions%s", device,
                ::geteuid(), ::getegid(), config.allow_other ? ",allow_other" : "");
  const unsigned long flags = config.mount_flags | (config.read_only ? static_cast<unsigned long>(MS_RDONLY) : 0UL);
  if (::mount(config.source.c_str(), config.mountpoint.c_str(), "fuse.flockfs", flags, options) != 0) {
    return errno_error("cannot mount on " + config.mountpoint);
  }
  MountPoint mirror;
  if (!look_at(config.mountpoint, mirror)) {
    const Error error = errno_error("cannot stat " + config.mountpoint);
    ::umount2(config.mountpoint.c_str(), MNT_DETACH);
    return error;
  }
  return mirror;
}

void detach(const std::string& mountpoint, const MountPoint& mirror) {
  MountPoint there;
  if (!look_at(mountpoint, there) || there.dev != mirror.dev || there.id != mirror.id) return;
  ::umount2(mountpoint.c_str(), MNT_DETACH | UMOUNT_NOFOLLOW);
}

// 36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw
bool is_mounted(int mountinfo, dev_t mirror) {
  char wanted[32];
  std::snprintf(wanted, sizeof wanted, "%u:%u", major(mirror), minor(mirror));
  if (::lseek(mountinfo, 0, SEEK_SET) != 0) return true;
  std::string text;
  char bytes[16 * 1024];
  ssize_t got = 0;
  while ((got = ::read(mountinfo, bytes, sizeof bytes)) > 0) text.append(bytes, static_cast<std::size_t>(got));
  if (got < 0) return true;  // not known: better go on serving
  std::string_view rest = text;
  while (!rest.empty()) {
    const std::string_view line = rest.substr(0, rest.find('\n'));
    rest.remove_prefix(std::min(line.size() + 1, rest.size()));
    std::size_t field = line.find(' ');
    if (field != std::string_view::npos) field = line.find(' ', field + 1);
    if (field == std::string_view::npos) continue;
    const std::string_view dev = line.substr(field + 1, line.find(' ', field + 1) - field - 1);
    if (dev == wanted) return true;
  }
  return false;
}

}  // namespace flockfs
