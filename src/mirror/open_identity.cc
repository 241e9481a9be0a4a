// Whether the file that an open has locked is still the one that it was meant for (DESIGN 1.3).

#include <fcntl.h>
#include <sys/stat.h>

#include <utility>

#include "mirror/clients.h"
#include "mirror/open_pipeline.h"
#include "tree/identity.h"

namespace flockfs {
namespace {

bool stat_by_name(const Inode::Name& name, struct stat& st) {
  auto parent = name.parent->path_fd();
  return parent && ::fstatat(parent->get(), name.name.c_str(), &st, AT_SYMLINK_NOFOLLOW) == 0;
}

bool is_at(const Inode::Name& name, const struct stat& st) {
  struct stat there {};
  return stat_by_name(name, there) && same_file(there, st);
}

}  // namespace

// What has the name: its attributes, and for kernel passthrough an O_PATH descriptor, from which they are then read.
bool OpenPipeline::look_by_name(const Inode::Name& name, const Inode& inode, struct stat& st, UniqueFd& path) const {
  if (!core_.backing.enabled()) return stat_by_name(name, st);
  auto parent = name.parent->path_fd();
  if (!parent) return false;
  path = UniqueFd(::openat(parent->get(), name.name.c_str(), O_PATH | O_NOFOLLOW | O_CLOEXEC));
  if (!path) return false;
  const auto looked = look_at(path.get());
  if (!looked || looked->mount_id != inode.mount().mount_id) return false;
  st = looked->st;
  return true;
}

// The usual case: it has one name, which leads to it, and nothing has happened to its rights. The look at the name then
// says what fstat(2) would. REQUIRES: the inode's object is open, so that its number is no other's.
bool OpenPipeline::plainly_leads_here(Inode& inode, struct stat& st, UniqueFd& path) const {
  if (!inode.reopens()) return false;  // overlayfs may give a file another number when it is first written
  const auto names = core_.inodes.names(inode);
  return names.size() == 1 && look_by_name(names.front(), inode, st, path) && st.st_ino == inode.ino() &&
         st.st_dev == inode.dev() && core_.attributes.rights_as_told(inode, st);
}

// DESIGN 1.3: whether the name under which the kernel opens the inode still leads to it. Which of several that is
// nobody says, so all must: what does not is dropped, and the kernel looks again. It also does if the rights have
// changed since it was told of them, for it has checked the old ones. At the second try whatever is there is served,
// and so is what has no name (O_TMPFILE, a deleted file by its magic link).
bool OpenPipeline::leads_here(pid_t tid, const InodePtr& inode, const struct stat& st) {
  auto names = core_.inodes.names(*inode);
  std::vector<const Inode::Name*> stale;
  for (const Inode::Name& name : names) {
    if (!is_at(name, st)) stale.push_back(&name);
  }
  if (stale.empty() && core_.attributes.rights_as_told(*inode, st)) return true;
  // The last one stays: it says under which name the kernel is to look again.
  if (stale.size() < names.size()) {
    for (const Inode::Name* name : stale) core_.inodes.remove_name(inode, name->parent, name->name);
  }
  forget_attributes(*inode, st);
  retries_.remember(tid, inode, std::move(names));
  return false;
}

// Asked when the request arrives: what it then waits for may take longer than a second try is awaited.
std::optional<Retries::Second> OpenPipeline::second_try(pid_t tid, const Inode& inode, LockMode mode) {
  if (retries_.none()) return std::nullopt;
  return retries_.take(tid, &inode, core_.inodes.names(inode), mode);
}

void OpenPipeline::attributes_were_stale(pid_t tid, const InodePtr& inode) {
  retries_.remember(tid, inode, core_.inodes.names(*inode),
                    calling(tid) == Calling::kByPath ? Retries::First::kOpen : Retries::First::kAttributes);
}

Result<Found> OpenPipeline::lookup(pid_t tid, const InodePtr& parent, const char* name) {
  if (!retries_.awaited(tid, parent, name)) return core_.inodes.lookup(parent, name);
  UniqueFd keep;
  auto found = core_.inodes.lookup(parent, name, &keep);
  if (found) {
    retries_.keep(tid, std::move(keep));
  } else {
    retries_.found_nothing(tid);
  }
  return found;
}

void OpenPipeline::forget_attributes(Inode& inode, const struct stat& st) {
  if (core_.attributes.current(inode, st)) return;
  core_.attributes.reset(inode);
  fuse_lowlevel_notify_inval_inode(core_.session, core_.node(inode), -1, 0);
}

}  // namespace flockfs
