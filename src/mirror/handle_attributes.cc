#include <fcntl.h>
#include <limits.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <array>
#include <memory>

#include "mirror/handlers.h"
#include "mirror/open_pipeline.h"

namespace flockfs {
namespace {

void getattr(fuse_req_t native, fuse_ino_t node, fuse_file_info* /*info*/) {
  serve(native, [&](Core& core, Request& request) {
    const InodePtr inode = core.inode(node);
    const AttributeRecord::Moment before = core.attributes.now();
    auto looked = core.look_at(*inode);
    if (!looked) {
      if (looked.error().code == ESTALE) core.opens->attributes_were_stale(request.tid(), inode);
      request.error(looked.error().code);
      return;
    }
    tell(core, before, *inode, looked->st);
    request.attributes(looked->st, attributes_last(core, looked->st));
  });
}

Status set_owner(int fd, const struct stat& wanted, int which) {
  const uid_t uid = (which & FUSE_SET_ATTR_UID) != 0 ? wanted.st_uid : static_cast<uid_t>(-1);
  const gid_t gid = (which & FUSE_SET_ATTR_GID) != 0 ? wanted.st_gid : static_cast<gid_t>(-1);
  if (::fchownat(fd, "", uid, gid, AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW) != 0) return errno_error();
  return {};
}

Status set_times(int fd, const struct stat& wanted, int which) {
  const auto time_for = [which](int set, int set_now, const timespec& value) {
    if ((which & set_now) != 0) return timespec{0, UTIME_NOW};
    return (which & set) != 0 ? value : timespec{0, UTIME_OMIT};
  };
  const std::array<timespec, 2> times = {time_for(FUSE_SET_ATTR_ATIME, FUSE_SET_ATTR_ATIME_NOW, wanted.st_atim),
                                         time_for(FUSE_SET_ATTR_MTIME, FUSE_SET_ATTR_MTIME_NOW, wanted.st_mtim)};
  if (::utimensat(AT_FDCWD, ProcFdPath(fd).c_str(), times.data(), 0) != 0) return errno_error();
  return {};
}

// ftruncate(2) on a file that is open and so holds its lock.
Status set_size(const Request& request, const OpenFile& file, off_t size) {
  const CallerScope scope(request.caller(), CallerScope::Rights::kPlain);
  if (!scope.ok()) return Error{EPERM, {}};
  if (::ftruncate(file.fd(), size) != 0) return errno_error();
  return {};
}

constexpr int kOwner = FUSE_SET_ATTR_UID | FUSE_SET_ATTR_GID;
constexpr int kTimes = FUSE_SET_ATTR_ATIME | FUSE_SET_ATTR_ATIME_NOW | FUSE_SET_ATTR_MTIME | FUSE_SET_ATTR_MTIME_NOW;

// Everything but the size.
Status set_attributes(int fd, const struct stat& wanted, int which) {
  // chown(2) to nobody in particular drops set-id bits and moves the time of change.
  const bool nothing = (which & (kOwner | kTimes | FUSE_SET_ATTR_MODE | FUSE_SET_ATTR_SIZE)) == 0;
  // Ownership before mode: chown(2) drops set-id bits that the same request may set.
  if ((which & kOwner) != 0 || nothing) {
    if (auto done = set_owner(fd, wanted, which); !done) return done;
  }
  if ((which & FUSE_SET_ATTR_MODE) != 0 && ::chmod(ProcFdPath(fd).c_str(), wanted.st_mode & 07777) != 0) {
    return errno_error();
  }
  if ((which & kTimes) != 0) return set_times(fd, wanted, which);
  return {};
}

// After the size, if that was to be set.
void set_the_rest(Core& core, Request& request, const InodePtr& inode, const Status& sized, const struct stat& wanted,
                  int which) {
  if (!sized) {
    request.error(sized.error().code);
    return;
  }
  const auto fd = inode->path_fd();
  const auto done = fd ? set_attributes(fd->get(), wanted, which) : Status(fd.error());
  const AttributeRecord::Moment before = core.attributes.now();
  auto looked = done ? core.inodes.look_at(fd) : done.error();
  if (!looked) {
    request.error(looked.error().code);
    return;
  }
  tell(core, before, *inode, looked->st);
  // The kernel takes this answer even if it comes late (unlike others: fuse_do_setattr), so it must not be kept.
  request.attributes(looked->st, 0);
}

void setattr(fuse_req_t native, fuse_ino_t node, struct stat* wanted, int which, fuse_file_info* info) {
  serve(native, [&](Core& core, Request& request) {
    const InodePtr inode = core.inode(node);
    if (inode->is_empty_mount()) {
      request.error(EACCES);
      return;
    }
    if ((which & FUSE_SET_ATTR_SIZE) == 0) {
      set_the_rest(core, request, inode, {}, *wanted, which);
      return;
    }
    // The size first: it may have to wait, and times that come with it are to be the last word.
    const auto file = info != nullptr ? core.files.get(info->fh) : nullptr;
    if (file) {
      set_the_rest(core, request, inode, set_size(request, *file, wanted->st_size), *wanted, which);
      return;
    }
    auto shared = std::make_shared<Request>(std::move(request));
    core.opens->truncate(shared, inode, wanted->st_size,
                         [&core, shared, inode, which, st = *wanted](const Status& done) {
                           set_the_rest(core, *shared, inode, done, st, which);
                         });
  });
}

void readlink(fuse_req_t native, fuse_ino_t node) {
  serve(native, [&](Core& core, Request& request) {
    auto fd = core.inode(node)->path_fd();
    std::array<char, PATH_MAX + 1> target{};
    const ssize_t length = fd ? ::readlinkat(fd->get(), "", target.data(), target.size() - 1) : -1;
    if (length < 0) {
      request.error(fd ? errno : fd.error().code);
      return;
    }
    request.link_target(target.data());
  });
}

void statfs(fuse_req_t native, fuse_ino_t node) {
  serve(native, [&](Core& core, Request& request) {
    auto fd = core.inode(node)->path_fd();
    struct statvfs st {};
    if (!fd || ::fstatvfs(fd->get(), &st) != 0) {
      request.error(fd ? errno : fd.error().code);
      return;
    }
    request.file_systems(st);
  });
}

}  // namespace

void add_attribute_handlers(fuse_lowlevel_ops& ops) {
  ops.getattr = getattr;
  ops.setattr = setattr;
  ops.readlink = readlink;
  ops.statfs = statfs;
}

}  // namespace flockfs
