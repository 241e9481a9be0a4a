#include "tree/make.h"

#include <fcntl.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <optional>
#include <string>

#include "tree/inode.h"
#include "tree/open_flags.h"

namespace flockfs {
namespace {

// O_TMPFILE needs the right to write, which says nothing of what the client may do with its own descriptor.
int writable(int flags) { return (flags & O_ACCMODE) == O_RDONLY ? (flags & ~O_ACCMODE) | O_RDWR : flags; }

bool no_tmpfile(int error) {
  return error == EOPNOTSUPP || error == EISDIR || error == ENOENT || error == EINVAL || error == ENOSYS;
}

// A name nobody looks for; nullopt without random numbers.
std::optional<std::string> hidden_name() {
  std::array<unsigned char, 12> random{};
  if (::getrandom(random.data(), random.size(), 0) != static_cast<ssize_t>(random.size())) return std::nullopt;
  std::string name = ".flockfs-";
  for (const unsigned char byte : random) {
    name += "0123456789abcdef"[byte >> 4];
    name += "0123456789abcdef"[byte & 15];
  }
  return name;
}

// Gives the file its right name, which must be free, and takes the hidden one away.
Status rename_to_free(int directory, const char* hidden, const char* name, Links links) {
  if (::renameat2(directory, hidden, directory, name, RENAME_NOREPLACE) == 0) return {};
  Status status = errno_error();
  const bool no_such_call = status.error().code == EINVAL || status.error().code == ENOSYS;
  if (no_such_call && links == Links::kSameInode) {
    status = ::linkat(directory, hidden, directory, name, 0) == 0 ? Status() : Status(errno_error());
  } else if (no_such_call) {
    status = Error{EOPNOTSUPP, {}};
  }
  ::unlinkat(directory, hidden, 0);
  return status;
}

// For sources without O_TMPFILE.
Result<UniqueFd> make_by_rename(int directory, const char* name, int flags, mode_t mode, const Caller& caller,
                                const BeforeVisible& before, Links links) {
  const auto hidden = hidden_name();
  if (!hidden) return errno_error();
  auto fd = make_file_plainly(directory, hidden->c_str(), flags, mode, caller);
  if (!fd) return fd.error();
  if (auto ready = before(fd->get()); !ready) {
    ::unlinkat(directory, hidden->c_str(), 0);
    return ready.error();
  }
  if (auto named = rename_to_free(directory, hidden->c_str(), name, links); !named) return named.error();
  return fd;
}

// For sources without any way to name a file that is locked already. If somebody else was faster with the lock, the
// file is one that turned up: EEXIST.
Result<UniqueFd> make_then_lock(int directory, const char* name, int flags, mode_t mode, const Caller& caller,
                                const BeforeVisible& before) {
  auto fd = make_file_plainly(directory, name, flags, mode, caller);
  if (!fd) return fd.error();
  if (auto ready = before(fd->get()); !ready) {
    return Error{ready.error().code == EAGAIN ? EEXIST : ready.error().code, {}};
  }
  return fd;
}

}  // namespace

Result<UniqueFd> make_file(int directory, const char* name, int flags, mode_t mode, const Caller& caller,
                           const BeforeVisible& before, Links links) {
  // An existing name is the common failure; asking first saves making a file for nothing. The answer is only a hint.
  struct stat exists {};
  if (::fstatat(directory, name, &exists, AT_SYMLINK_NOFOLLOW) == 0) return Error{EEXIST, {}};
  auto fd = make_unnamed(directory, flags, mode, caller);
  if (!fd) {
    // In a removed directory ext4 says EPERM here (__ext4_new_inode()), where an open by name is told that it is gone.
    struct stat st {};
    if (fd.error().code == EPERM && ::fstat(directory, &st) == 0 && st.st_nlink == 0) return Error{ENOENT, {}};
    if (!no_tmpfile(fd.error().code)) return fd.error();
    fd = make_by_rename(directory, name, flags, mode, caller, before, links);
    if (fd || fd.error().code != EOPNOTSUPP) return fd;
    return make_then_lock(directory, name, flags, mode, caller, before);
  }
  if (auto ready = before(fd->get()); !ready) return ready.error();
  if (auto named = name_file(fd->get(), directory, name, caller); !named) return named.error();
  return fd;
}

Result<UniqueFd> make_file_plainly(int directory, const char* name, int flags, mode_t mode, const Caller& caller) {
  CallerScope scope(caller, CallerScope::Rights::kMaker);
  if (!scope.ok()) return Error{EPERM, {}};
  UniqueFd fd(::openat(directory, name, source_flags(flags) | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, mode));
  if (!fd) return errno_error();
  return fd;
}

Result<UniqueFd> make_unnamed(int directory, int flags, mode_t mode, const Caller& caller) {
  CallerScope scope(caller, CallerScope::Rights::kMaker);
  if (!scope.ok()) return Error{EPERM, {}};
  UniqueFd fd(::openat(directory, ".", source_flags(writable(flags)) | O_TMPFILE | O_CLOEXEC, mode));
  if (!fd) return errno_error();
  return fd;
}

Status name_file(int fd, int directory, const char* name, const Caller& caller) {
  CallerScope scope(caller, CallerScope::Rights::kMaker);
  if (!scope.ok()) return Error{EPERM, {}};
  if (::linkat(AT_FDCWD, ProcFdPath(fd).c_str(), directory, name, AT_SYMLINK_FOLLOW) != 0) return errno_error();
  return {};
}

Result<UniqueFd> open_as_caller(int directory, const char* name, int flags, const Caller& caller) {
  const UniqueFd path(::openat(directory, name, O_PATH | O_NOFOLLOW | O_CLOEXEC));
  struct stat st {};
  if (!path || ::fstat(path.get(), &st) != 0) return errno_error();
  if (!S_ISREG(st.st_mode)) return Error{EEXIST, {}};
  const CallerScope scope(caller, CallerScope::Rights::kPlain);
  if (!scope.ok()) return Error{EPERM, {}};
  UniqueFd fd(::open(ProcFdPath(path.get()).c_str(), source_flags(flags) | O_NONBLOCK | O_NOCTTY | O_CLOEXEC));
  if (!fd) return errno_error();
  ::fcntl(fd.get(), F_SETFL, source_flags(flags) & ~O_ACCMODE);
  return fd;
}

Status make_directory(int directory, const char* name, mode_t mode, const Caller& caller) {
  CallerScope scope(caller, CallerScope::Rights::kMaker);
  if (!scope.ok()) return Error{EPERM, {}};
  if (::mkdirat(directory, name, mode) != 0) return errno_error();
  return {};
}

Status make_node(int directory, const char* name, mode_t mode, dev_t device, const Caller& caller) {
  CallerScope scope(caller, CallerScope::Rights::kMaker);
  if (!scope.ok()) return Error{EPERM, {}};
  if (::mknodat(directory, name, mode, device) != 0) return errno_error();
  return {};
}

Status make_symlink(int directory, const char* name, const char* target, const Caller& caller) {
  CallerScope scope(caller, CallerScope::Rights::kMaker);
  if (!scope.ok()) return Error{EPERM, {}};
  if (::symlinkat(target, directory, name) != 0) return errno_error();
  return {};
}

}  // namespace flockfs
