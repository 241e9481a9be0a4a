#include "mirror/lock_probe.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <memory>

namespace flockfs {
namespace {

// Entries of SOURCE that are looked at for a regular file.
constexpr int kMostEntries = 1000;

using Directory = std::unique_ptr<DIR, int (*)(DIR*)>;

UniqueFd some_file(const Source& source) {
  UniqueFd fd(::openat(source.root_fd(), ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600));
  if (fd) return fd;
  const int listing = ::openat(source.root_fd(), ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  const Directory directory(listing < 0 ? nullptr : ::fdopendir(listing), &::closedir);
  if (!directory) {
    if (listing >= 0) ::close(listing);
    return {};
  }
  for (int seen = 0; seen < kMostEntries; ++seen) {
    const dirent* entry = ::readdir(directory.get());
    if (entry == nullptr) break;
    if (entry->d_type != DT_REG) continue;
    fd = UniqueFd(::openat(listing, entry->d_name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC));
    struct stat st {};
    if (fd && ::fstat(fd.get(), &st) == 0 && S_ISREG(st.st_mode)) return fd;
  }
  return {};
}

}  // namespace

bool is_unsupported(int error) { return error == ENOLCK || error == EOPNOTSUPP || error == ENOSYS; }

Status probe_locks(const Source& source, FileLocker& locker) {
  const UniqueFd fd = some_file(source);
  if (!fd) return {};
  const int error = locker.try_lock(fd.get(), LockMode::kShared);
  if (error == 0) (void)locker.unlock(fd.get());
  if (!is_unsupported(error)) return {};
  return Error{error,
               source.path() + ": its file system has no locks (on_unsupported=unlocked mounts it all the same)"};
}

}  // namespace flockfs
