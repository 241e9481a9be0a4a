#include "tree/inode.h"

#include <fcntl.h>

#include <cstdio>
#include <cstdlib>

namespace flockfs {
namespace {

std::atomic<std::uint32_t> last_generation{0};

}  // namespace

Inode::Inode(const SourceMount& mount, std::string key, FileHandle handle, UniqueFd path_fd, const struct stat& st)
    : mount_(mount),
      key_(std::move(key)),
      handle_(std::move(handle)),
      path_fd_(std::move(path_fd)),
      dev_(st.st_dev),
      ino_(st.st_ino),
      type_(st.st_mode & S_IFMT),
      generation_(++last_generation) {}

InodePtr Inode::from_number(std::uint64_t number) {
  auto* inode = reinterpret_cast<Inode*>(static_cast<std::uintptr_t>(number));
  if (!inode->complete_.load(std::memory_order_acquire)) std::abort();
  return inode->shared_from_this();
}

Result<PathFd> Inode::path_fd() const {
  if (path_fd_) return PathFd(path_fd_.get());
  auto fd = open_handle(mount_.dir.get(), handle_, O_PATH | O_NOFOLLOW);
  if (!fd) return fd.error();
  return PathFd(*std::move(fd));
}

Result<UniqueFd> Inode::open(int flags) const {
  if (!is_regular() && !is_directory()) return Error{ENXIO, {}};
  flags |= O_CLOEXEC | O_NOCTTY;
  auto fd = open_with(flags & ~O_APPEND);
  if (!fd && fd.error().code == EPERM && (flags & O_APPEND) != 0) return open_with(flags);
  return fd;
}

Result<UniqueFd> Inode::open_with(int flags) const {
  if (!path_fd_) return open_handle(mount_.dir.get(), handle_, flags);
  UniqueFd fd(::open(ProcFdPath(path_fd_.get()).c_str(), flags & ~O_NOFOLLOW));
  // No name was looked up: what some FUSE daemons say of a file whose name was replaced.
  if (!fd) return Error{errno == ENOENT ? ESTALE : errno, {}};
  return fd;
}

ProcFdPath::ProcFdPath(int fd) { std::snprintf(text_, sizeof text_, "/proc/self/fd/%d", fd); }

}  // namespace flockfs
