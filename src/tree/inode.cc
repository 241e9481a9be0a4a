#include "tree/inode.h"

#include <fcntl.h>

#include <cstdlib>
#include <memory>
#include <vector>

#include "tree/file_handle.h"
#include "tree/kept_fds.h"

namespace flockfs {
namespace {

std::atomic<std::uint32_t> last_generation{0};

}  // namespace

Inode::Inode(const SourceMount& mount, KeptFds& kept, std::string_view identity, bool by_handle, const struct stat& st)
    : generation_(++last_generation),
      mount_(mount),
      kept_(kept),
      identity_(identity),
      dev_(st.st_dev),
      ino_(st.st_ino),
      type_(static_cast<std::uint16_t>(st.st_mode & S_IFMT)),
      by_handle_(by_handle) {}

InodePtr Inode::from_number(std::uint64_t number) {
  auto* inode = reinterpret_cast<Inode*>(static_cast<std::uintptr_t>(number));
  if (!inode->complete_.load(std::memory_order_acquire)) std::abort();
  return {inode};
}

// An inode may be the last to hold its directory, that one its own, and so on for as many levels as a client cared to
// make: one after the other, or the stack would be as deep.
void Inode::end(Inode* inode) noexcept {
  while (inode != nullptr) {
    if (!inode->reopens()) inode->kept_.drop(*inode);
    // Only a file has several names, and it is nobody's parent: this goes no deeper than one level.
    Inode* const parent = inode->names_.empty() ? nullptr : inode->names_.take_newest().parent.detach();
    delete inode;
    inode = parent != nullptr && parent->unref() ? parent : nullptr;
  }
}

std::string_view Inode::handle() const { return identity().substr(kHandleAt); }

bool Inode::is(int fd) const {
  auto looked = look_at(fd);
  return looked && looked->mount_id == mount_.mount_id &&
         identity_of(mount_, identifying_handle(mount_, fd), looked->st) == identity();
}

Result<PathFd> Inode::path_fd() const {
  if (!reopens()) return kept_.get(*this);
  if (is_directory()) {
    if (auto last = kept_.last_directory(*this)) return *std::move(last);
  }
  auto fd = open_handle(mount_.dir.get(), handle(), O_PATH | O_NOFOLLOW);
  if (!fd) return fd.error();
  return is_directory() ? kept_.keep_last_directory(*this, *std::move(fd)) : PathFd(*std::move(fd));
}

std::optional<PathFd> Inode::path_fd_at_hand() const {
  if (!reopens()) return kept_.at_hand(*this);
  auto fd = path_fd();
  if (!fd) return std::nullopt;
  return *std::move(fd);
}

Result<PathFd> Inode::path_fd_by(int fd) const {
  if (auto kept = kept_.at_hand(*this)) return *std::move(kept);
  UniqueFd own(::open(ProcFdPath(fd).c_str(), O_PATH | O_CLOEXEC));
  if (!own) return errno_error();
  return kept_.keep(*this, std::move(own));
}

Result<UniqueFd> Inode::open(int flags) const {
  if (!is_regular() && !is_directory()) return Error{ENXIO, {}};
  flags |= O_CLOEXEC | O_NOCTTY;
  auto fd = open_with(flags & ~O_APPEND);
  if (!fd && fd.error().code == EPERM && (flags & O_APPEND) != 0) return open_with(flags);
  return fd;
}

Result<UniqueFd> Inode::open_with(int flags) const {
  if (reopens()) return open_handle(mount_.dir.get(), handle(), flags);
  auto path = path_fd();
  if (!path) return path.error();
  UniqueFd fd(::open(ProcFdPath(path->get()).c_str(), flags & ~O_NOFOLLOW));
  // No name was looked up: what some FUSE daemons say of a file whose name was replaced.
  if (!fd) return Error{errno == ENOENT ? ESTALE : errno, {}};
  return fd;
}

}  // namespace flockfs
