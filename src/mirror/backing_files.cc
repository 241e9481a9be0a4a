#include "mirror/backing_files.h"

#include <sys/xattr.h>

#include <cerrno>
#include <optional>

#include "base/log.h"
#include "tree/credentials.h"

namespace flockfs {
namespace {

// With nobody's rights a write by the file's owner or by root would lose what it may keep, as with ours a stranger's
// would keep what it must lose: such files are written by us, as the client.
bool changes_with_writer(int fd, const struct stat& st) {
  if ((st.st_mode & (S_ISUID | S_ISGID)) != 0) return true;
  return ::fgetxattr(fd, "security.capability", nullptr, 0) > 0;
}

}  // namespace

BackingFiles::Way BackingFiles::open(fuse_req_t request, const std::shared_ptr<const OpenFile>& file, int path_fd,
                                     const struct stat& st) {
  const Inode& inode = *file->inode;
  {
    MutexLock lock(mutex_);
    if (auto use = uses_.find(&inode); use != uses_.end()) return join(use->second, file);
  }
  const Rights rights = read_only_ || (file->locked() && !file->writes()) ? Rights::kOwn : Rights::kNobodys;
  // Of a file of overlayfs that is mapped, /proc/PID/maps shows the file below: the mapping could not be told from
  // none.
  const bool possible = enabled_ && !inode.mount().remote && !inode.mount().stacked &&
                        (rights == Rights::kOwn || !changes_with_writer(file->fd(), st));
  const int fresh = possible ? register_file(request, inode, path_fd, rights) : 0;
  Way way;
  bool needed = true;
  {
    // Another open of the inode may have decided while this one registered; then its way holds.
    MutexLock lock(mutex_);
    auto [use, inserted] = uses_.try_emplace(&inode, Use{0, fresh, rights, {}});
    needed = inserted;
    way = join(use->second, file);
  }
  if (fresh != 0 && !needed) fuse_passthrough_close(request, fresh);
  return way;
}

BackingFiles::Way BackingFiles::join(Use& use, const std::shared_ptr<const OpenFile>& file) {
  ++use.opens;
  if (use.file.expired()) use.file = file;
  return {use.id, use.id != 0 && use.rights == Rights::kOwn && file->writes()};
}

std::shared_ptr<const OpenFile> BackingFiles::open_file_of(const Inode& inode) const {
  MutexLock lock(mutex_);
  auto use = uses_.find(&inode);
  return use == uses_.end() ? nullptr : use->second.file.lock();
}

int BackingFiles::register_file(fuse_req_t request, const Inode& inode, int path_fd, Rights rights) {
  if (path_fd >= 0) return register_path(request, path_fd, rights);
  auto path = inode.path_fd();
  return path ? register_path(request, path->get(), rights) : 0;
}

int BackingFiles::register_path(fuse_req_t request, int path_fd, Rights rights) {
  int id = 0;
  int error = 0;
  {
    std::optional<NobodyScope> nobody;
    if (rights == Rights::kNobodys) nobody.emplace();
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
    if (use == uses_.end()) return;
    use->second.file.reset();  // it may be this one, whose lock is to end now
    if (--use->second.opens > 0) return;
    id = use->second.id;
    uses_.erase(use);
  }
  if (id != 0 && request != nullptr) fuse_passthrough_close(request, id);
}

}  // namespace flockfs
