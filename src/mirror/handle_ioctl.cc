// File attributes as lsattr(1), chattr(1) and xfs_io(8) know them. The kernel has checked that the caller may set them
// (vfs_fileattr_set); the source's file system is asked as the caller all the same.

#include <linux/fs.h>
#include <sys/ioctl.h>

#include <cstdint>
#include <cstring>
#include <memory>

#include "mirror/handlers.h"

namespace flockfs {
namespace {

// How many bytes a request carries, either way; 0: not one of ours. By the kernel's _IOR('f', 1, long) FS_IOC_GETFLAGS
// says long, but it is an int that is copied.
std::size_t size_of(unsigned command) {
  switch (command) {
    case FS_IOC_GETFLAGS:
    case FS_IOC_SETFLAGS:
    case FS_IOC_GETVERSION:
      return sizeof(int);
    case FS_IOC_FSGETXATTR:
    case FS_IOC_FSSETXATTR:
      return sizeof(fsxattr);
    default:
      return 0;
  }
}

// An errno, or 0.
int forward(int fd, unsigned command, const Caller& caller, void* bytes) {
  const CallerScope scope(caller, CallerScope::Rights::kPlain);
  if (!scope.ok()) return EPERM;
  return ::ioctl(fd, command, bytes) == 0 ? 0 : errno;
}

// The descriptor of what the kernel has open under a number, and what keeps it open.
struct Opened {
  std::shared_ptr<const void> owner;
  int fd = -1;
};

Opened opened(const Core& core, std::uint64_t number, bool directory) {
  if (directory) {
    const auto open = core.directories.get(number);
    return open ? Opened{open, open->stream.fd()} : Opened{};
  }
  if (const auto open = core.attribute_opens.get(number)) return {open, open->fd.get()};
  const auto file = core.files.get(number);
  return file ? Opened{file, file->fd()} : Opened{};
}

void ioctl(fuse_req_t native, fuse_ino_t node, unsigned command, void* /*argument*/, fuse_file_info* info,
           unsigned flags, const void* in, std::size_t in_size, std::size_t out_size) {
  serve(native, [&](Core& core, Request& request) {
    const std::size_t size = size_of(command);
    const bool sets = command == FS_IOC_SETFLAGS || command == FS_IOC_FSSETXATTR;
    if (size == 0 || (flags & FUSE_IOCTL_COMPAT) != 0) {
      request.error(ENOTTY);
      return;
    }
    if ((sets ? in_size : out_size) < size) {
      request.error(EINVAL);
      return;
    }
    if (core.inode(node)->is_empty_mount()) {
      request.error(ENOTTY);
      return;
    }
    const Opened open = opened(core, info->fh, (flags & FUSE_IOCTL_DIR) != 0);
    if (open.fd < 0) {
      request.error(EBADF);
      return;
    }
    alignas(fsxattr) char bytes[sizeof(fsxattr)] = {};
    if (sets) std::memcpy(bytes, in, size);
    const int error = forward(open.fd, command, request.caller(), bytes);
    if (error != 0) {
      request.error(error);
    } else {
      request.controlled(bytes, sets ? 0 : size);
    }
  });
}

}  // namespace

void add_ioctl_handlers(fuse_lowlevel_ops& ops) { ops.ioctl = ioctl; }

}  // namespace flockfs
