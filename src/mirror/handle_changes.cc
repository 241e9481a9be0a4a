#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdio>
#include <functional>
#include <optional>

#include "mirror/handlers.h"
#include "tree/make.h"

namespace flockfs {
namespace {

// A directory to change something in; not one that is shown empty.
Result<PathFd> open_for_change(const InodePtr& directory) {
  if (directory->is_empty_mount()) return Error{EACCES, {}};
  return directory->path_fd();
}

// Makes an object and answers with it.
void make(Core& core, Request& request, const InodePtr& parent, const char* name,
          const std::function<Status(int directory)>& make_it) {
  auto directory = open_for_change(parent);
  Status made = directory ? make_it(directory->get()) : Status(directory.error());
  if (!made) {
    request.error(made.error().code);
    return;
  }
  answer_entry(core, request, parent, name);
}

void mkdir(fuse_req_t native, fuse_ino_t parent, const char* name, mode_t mode) {
  serve(native, [&](Core& core, Request& request) {
    const Caller caller = request.maker(mode);
    make(core, request, core.inode(parent), name, [&](int dir) { return make_directory(dir, name, mode, caller); });
  });
}

void mknod(fuse_req_t native, fuse_ino_t parent, const char* name, mode_t mode, dev_t device) {
  serve(native, [&](Core& core, Request& request) {
    const Caller caller = request.maker(mode);
    make(core, request, core.inode(parent), name, [&](int dir) { return make_node(dir, name, mode, device, caller); });
  });
}

void symlink(fuse_req_t native, const char* target, fuse_ino_t parent, const char* name) {
  serve(native, [&](Core& core, Request& request) {
    const Caller caller = request.caller();
    make(core, request, core.inode(parent), name, [&](int dir) { return make_symlink(dir, name, target, caller); });
  });
}

void link(fuse_req_t native, fuse_ino_t node, fuse_ino_t parent, const char* name) {
  serve(native, [&](Core& core, Request& request) {
    const InodePtr inode = core.inode(node);
    auto fd = inode->path_fd();
    make(core, request, core.inode(parent), name, [&](int dir) -> Status {
      if (!fd) return fd.error();
      // The magic link leads to the object itself, a symlink included.
      if (::linkat(AT_FDCWD, ProcFdPath(fd->get()).c_str(), dir, name, AT_SYMLINK_FOLLOW) != 0) return errno_error();
      return {};
    });
  });
}

// The inode that has a name now, if the kernel knows it.
InodePtr named(const Core& core, const InodePtr& parent, int directory, const char* name) {
  const UniqueFd fd(::openat(directory, name, O_PATH | O_NOFOLLOW | O_CLOEXEC));
  return fd ? core.inodes.find(fd.get(), parent) : nullptr;
}

// What a name leads to that is about to go. Where no handle finds an object without a name, it is kept for whoever uses
// it still.
class Leaving {
 public:
  Leaving(Core& core, const InodePtr& parent, int directory, const char* name) : core_(core) {
    if (parent->reopens()) return;
    inode_ = named(core, parent, directory, name);
    if (!inode_ || inode_->reopens()) return;
    if (auto fd = inode_->path_fd()) fd_ = *std::move(fd);
  }
  // It has gone.
  void gone() {
    struct stat st {};
    if (!fd_ || ::fstat(fd_->get(), &st) != 0) return;
    if (inode_->is_directory() || st.st_nlink == 0) core_.inodes.pin(inode_, *std::move(fd_));
  }

 private:
  Core& core_;
  InodePtr inode_;
  std::optional<PathFd> fd_;
};

void remove(fuse_req_t native, fuse_ino_t parent, const char* name, int flags) {
  serve(native, [&](Core& core, Request& request) {
    const InodePtr from = core.inode(parent);
    auto directory = open_for_change(from);
    if (!directory) {
      request.error(directory.error().code);
      return;
    }
    Leaving leaving(core, from, directory->get(), name);
    if (::unlinkat(directory->get(), name, flags) != 0) {
      request.error(errno);
      return;
    }
    leaving.gone();
    request.ok();
  });
}

void unlink(fuse_req_t native, fuse_ino_t parent, const char* name) { remove(native, parent, name, 0); }

void rmdir(fuse_req_t native, fuse_ino_t parent, const char* name) { remove(native, parent, name, AT_REMOVEDIR); }

void rename(fuse_req_t native, fuse_ino_t parent, const char* name, fuse_ino_t new_parent, const char* new_name,
            unsigned flags) {
  serve(native, [&](Core& core, Request& request) {
    const InodePtr from = core.inode(parent);
    const InodePtr to = core.inode(new_parent);
    auto from_fd = open_for_change(from);
    auto to_fd = open_for_change(to);
    if (!from_fd || !to_fd) {
      request.error(from_fd ? to_fd.error().code : from_fd.error().code);
      return;
    }
    const InodePtr moved = named(core, from, from_fd->get(), name);
    InodePtr other;
    std::optional<Leaving> replaced;
    if ((flags & RENAME_EXCHANGE) != 0) {
      other = named(core, to, to_fd->get(), new_name);
    } else {
      replaced.emplace(core, to, to_fd->get(), new_name);
    }
    if (::renameat2(from_fd->get(), name, to_fd->get(), new_name, flags) != 0) {
      request.error(errno);
      return;
    }
    if (replaced) replaced->gone();
    // The kernel moves its names without a lookup.
    if (moved) {
      core.inodes.remove_name(moved, from, name);
      core.inodes.add_name(moved, to, new_name);
    }
    if (other) {
      core.inodes.remove_name(other, to, new_name);
      core.inodes.add_name(other, from, name);
    }
    request.ok();
  });
}

}  // namespace

void add_change_handlers(fuse_lowlevel_ops& ops) {
  ops.mkdir = mkdir;
  ops.mknod = mknod;
  ops.symlink = symlink;
  ops.link = link;
  ops.unlink = unlink;
  ops.rmdir = rmdir;
  ops.rename = rename;
}

}  // namespace flockfs
