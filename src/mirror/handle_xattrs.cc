#include <linux/limits.h>
#include <sys/stat.h>
#include <sys/xattr.h>

#include <algorithm>
#include <cerrno>
#include <string_view>
#include <vector>

#include "mirror/handlers.h"

namespace flockfs {
namespace {

// Runs `call(path)` on the magic link of the inode's descriptor, which leads to the object itself, a symlink included,
// and answers its error if it fails.
template <typename Call>
ssize_t on_object(Core& core, Request& request, fuse_ino_t node, bool change, Call call) {
  const InodePtr inode = core.inode(node);
  if (change && inode->is_empty_mount()) {
    request.error(EACCES);
    return -1;
  }
  auto fd = change ? inode->path_fd() : core.path_fd_of(*inode);
  const ssize_t result = fd ? call(ProcFdPath(fd->get()).c_str()) : -1;
  if (result < 0) request.error(fd ? errno : fd.error().code);
  return result;
}

void setxattr(fuse_req_t native, fuse_ino_t node, const char* name, const char* value, std::size_t size, int flags) {
  serve(native, [&](Core& core, Request& request) {
    const auto set = [&](const char* path) {
      // Whether the set-group-id bit survives depends on who sets an ACL, which the kernel leaves to us.
      const bool acl = std::string_view(name).starts_with("system.posix_acl_");
      const Caller caller = acl ? request.maker(S_ISGID) : Caller{};
      const CallerScope scope(caller, CallerScope::Rights::kPlain);
      if (!scope.ok()) errno = EPERM;
      return scope.ok() ? ::setxattr(path, name, value, size, flags) : -1;
    };
    if (on_object(core, request, node, true, set) >= 0) request.ok();
  });
}

void removexattr(fuse_req_t native, fuse_ino_t node, const char* name) {
  serve(native, [&](Core& core, Request& request) {
    const auto remove = [&](const char* path) { return ::removexattr(path, name); };
    if (on_object(core, request, node, true, remove) >= 0) request.ok();
  });
}

// Answers with the bytes that `read(path, buffer, size)` gives, or with how many there are if the client asks with size
// 0.
template <typename Read>
void answer_bytes(Core& core, Request& request, fuse_ino_t node, std::size_t size, Read read) {
  std::vector<char> bytes(std::min<std::size_t>(size, XATTR_SIZE_MAX));
  const auto call = [&](const char* path) { return read(path, bytes.empty() ? nullptr : bytes.data(), bytes.size()); };
  const ssize_t got = on_object(core, request, node, false, call);
  if (got < 0) return;
  if (size == 0) {
    request.xattr_size(static_cast<std::size_t>(got));
  } else {
    request.buffer(bytes.data(), static_cast<std::size_t>(got));
  }
}

void getxattr(fuse_req_t native, fuse_ino_t node, const char* name, std::size_t size) {
  serve(native, [&](Core& core, Request& request) {
    answer_bytes(core, request, node, size,
                 [&](const char* path, char* bytes, std::size_t room) { return ::getxattr(path, name, bytes, room); });
  });
}

// The names are null-terminated, one after the other. Those of trusted.* are root's only (fs/xattr.c, simple_xattr_list
// and each file system's own), which the kernel leaves to whoever serves FUSE.
ssize_t list_for_strangers(std::string_view names, char* bytes, std::size_t room) {
  std::size_t used = 0;
  while (!names.empty()) {
    const std::string_view name = names.substr(0, std::min(names.find('\0'), names.size() - 1) + 1);
    names.remove_prefix(name.size());
    if (name.starts_with("trusted.")) continue;
    if (bytes != nullptr && used + name.size() > room) {
      errno = ERANGE;
      return -1;
    }
    if (bytes != nullptr) std::copy(name.begin(), name.end(), bytes + used);
    used += name.size();
  }
  return static_cast<ssize_t>(used);
}

void listxattr(fuse_req_t native, fuse_ino_t node, std::size_t size) {
  serve(native, [&](Core& core, Request& request) {
    const bool all = request.uid() == 0;
    answer_bytes(core, request, node, size, [all](const char* path, char* bytes, std::size_t room) {
      if (all) return ::listxattr(path, bytes, room);
      std::vector<char> names(XATTR_LIST_MAX);
      const ssize_t got = ::listxattr(path, names.data(), names.size());
      return got < 0 ? got : list_for_strangers({names.data(), static_cast<std::size_t>(got)}, bytes, room);
    });
  });
}

}  // namespace

void add_xattr_handlers(fuse_lowlevel_ops& ops) {
  ops.setxattr = setxattr;
  ops.getxattr = getxattr;
  ops.listxattr = listxattr;
  ops.removexattr = removexattr;
}

}  // namespace flockfs
