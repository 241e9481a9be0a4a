#include "mirror/backing_files.h"

#include <sys/xattr.h>

#include <cerrno>
#include <optional>

#include "base/log.h"
#include "tree/credentials.h"

namespace flockfs {
namespace {

// The kernel writes a backing file with the rights of the thread that registered it, so a write by the file's owner or
// by root would lose what it may keep, and a stranger's keep what it must lose: such files are written by us, as the
// client.
bool changes_with_writer(int fd, const struct stat& st) {
  if ((st.st_mode & (S_ISUID | S_ISGID)) != 0) return true;
  return ::fgetxattr(fd, "security.capability", nullptr, 0) > 0;
}

}  // namespace

int BackingFiles::open(fuse_req_t request, Inode& inode, Descriptors fds, const struct stat& st) {
  int unneeded = 0;
  {
    MutexLock lock(mutex_);
    auto use = uses_.find(&inode);
    if (use != uses_.end()) {
      ++use->second.opens;
      return use->second.id;
    }
  }
  // Of a file of overlayfs that is mapped, /proc/PID/maps shows the file below: the mapping could not be told from
  // none.
  const bool possible =
      enabled_ && !inode.mount().remote && !inode.mount().stacked && (read_only_ || !changes_with_writer(fds.file, st));
  const int fresh = possible ? register_file(request, inode, fds.path) : 0;
  const int id = join(inode, fresh, &unneeded);
  if (unneeded != 0) fuse_passthrough_close(request, unneeded);
  return id;
}

// Another open of the inode may have decided while this one registered; then its way holds.
int BackingFiles::join(const Inode& inode, int fresh_id, int* unneeded) {
  MutexLock lock(mutex_);
  auto [use, inserted] = uses_.try_emplace(&inode, Use{0, fresh_id});
  if (!inserted) *unneeded = fresh_id;
  ++use->second.opens;
  return use->second.id;
}

int BackingFiles::register_file(fuse_req_t request, const Inode& inode, int path_fd) {
  if (path_fd >= 0) return register_path(request, path_fd);
  auto path = inode.path_fd();
  return path ? register_path(request, path->get()) : 0;
}

int BackingFiles::register_path(fuse_req_t request, int path_fd) {
  int id = 0;
  int error = 0;
  {
    std::optional<NobodyScope> nobody;
    if (!read_only_) nobody.emplace();
    if (nobody && !nobody->ok()) return 0;
    errno = 0;
    id = fuse_passthrough_open(request, path_fd);
    error = errno;
  }
  if (id > 0) return id;
  if (error == EPERM && enabled_.exchange(false)) {
    log_write(LogLevel::kInfo, LogLine("passthrough").text("state", "off").text("reason", "EPERM"));
  }
  return 0;
}

void BackingFiles::close(fuse_req_t request, const Inode& inode) {
  int id = 0;
  {
    MutexLock lock(mutex_);
    auto use = uses_.find(&inode);
    if (use == uses_.end() || --use->second.opens > 0) return;
    id = use->second.id;
    uses_.erase(use);
  }
  if (id != 0 && request != nullptr) fuse_passthrough_close(request, id);
}

}  // namespace flockfs
