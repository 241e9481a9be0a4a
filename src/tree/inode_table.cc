#include "tree/inode_table.h"

#include <fcntl.h>
#include <sys/sysmacros.h>

#include <algorithm>
#include <cstring>
#include <iterator>

namespace flockfs {
namespace {

// Names of directories that the source moved about behind the kernel's back can form a loop; a path ends here then.
constexpr std::size_t kMaxDepth = 1 << 14;

// Names of one file that are remembered.
constexpr std::size_t kMaxNames = 1024;

struct Looked {
  struct stat st {};
  std::uint64_t mount_id = 0;
};

Result<Looked> look(int fd) {
  struct statx info {};
  if (::statx(fd, "", AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW, STATX_BASIC_STATS | STATX_MNT_ID, &info) != 0) {
    return errno_error();
  }
  Looked looked;
  struct stat& st = looked.st;
  st.st_dev = makedev(info.stx_dev_major, info.stx_dev_minor);
  st.st_ino = info.stx_ino;
  st.st_mode = info.stx_mode;
  st.st_nlink = info.stx_nlink;
  st.st_uid = info.stx_uid;
  st.st_gid = info.stx_gid;
  st.st_rdev = makedev(info.stx_rdev_major, info.stx_rdev_minor);
  st.st_size = static_cast<off_t>(info.stx_size);
  st.st_blksize = info.stx_blksize;
  st.st_blocks = static_cast<blkcnt_t>(info.stx_blocks);
  st.st_atim = {info.stx_atime.tv_sec, info.stx_atime.tv_nsec};
  st.st_mtim = {info.stx_mtime.tv_sec, info.stx_mtime.tv_nsec};
  st.st_ctim = {info.stx_ctime.tv_sec, info.stx_ctime.tv_nsec};
  looked.mount_id = info.stx_mnt_id;
  return looked;
}

// A handle outlives its object, so it says which object is meant even after the inode number has been reused; where
// there is none, the descriptor that the inode keeps stops the number from being reused.
std::string make_key(const SourceMount& mount, const FileHandle& handle, const struct stat& st) {
  std::string key(reinterpret_cast<const char*>(&mount.index), sizeof mount.index);
  if (!handle.empty()) return key += handle;
  key.append(reinterpret_cast<const char*>(&st.st_dev), sizeof st.st_dev);
  key.append(reinterpret_cast<const char*>(&st.st_ino), sizeof st.st_ino);
  return key;
}

std::string below(std::string path, std::string_view name) {
  if (path != "/") path += '/';
  return path += name;
}

}  // namespace

InodeTable::~InodeTable() {
  std::vector<std::vector<Inode::Name>> ended;
  MutexLock lock(mutex_);
  for (auto& [key, inode] : inodes_) ended.push_back(std::move(inode->names_));
  lock.unlock();
}

Status InodeTable::open_root() {
  UniqueFd fd(::openat(source_.root_fd(), ".", O_PATH | O_DIRECTORY | O_CLOEXEC));
  if (!fd) return errno_error(source_.path());
  auto found = adopt(std::move(fd), nullptr, "");
  if (!found) return found.error();
  root_ = found->inode;
  return {};
}

Result<Found> InodeTable::lookup(const InodePtr& parent, const char* name, UniqueFd* keep) {
  if (parent->is_empty_mount()) return Error{ENOENT, {}};
  auto directory = parent->path_fd();
  if (!directory) return directory.error();
  UniqueFd reached(::openat(directory->get(), name, O_PATH | O_NOFOLLOW | O_CLOEXEC));
  if (!reached) return errno_error();
  auto fd = source_.below_mirror(std::move(reached));
  if (!fd) return fd.error();
  if (keep != nullptr) *keep = UniqueFd(::fcntl(fd->get(), F_DUPFD_CLOEXEC, 0));
  return adopt(*std::move(fd), parent, name);
}

Result<Found> InodeTable::adopt(UniqueFd fd, const InodePtr& parent, const char* name) {
  auto looked = look(fd.get());
  if (!looked) return looked.error();
  const SourceMount* mount = nullptr;
  if (parent && parent->mount().mount_id == looked->mount_id && parent->dev() == looked->st.st_dev) {
    mount = &parent->mount();
  } else {
    auto crossed = source_.mount_of(fd.get(), looked->mount_id, looked->st.st_dev, looked->st.st_mode,
                                    parent ? where(parent, name) : std::string{});
    if (!crossed) return crossed.error();
    mount = *crossed;
  }
  FileHandle handle;
  if (mount->handles) handle = handle_of(fd.get()).value_or(FileHandle{});
  const bool unnamed = parent && *name == '\0';
  if ((handle.empty() || unnamed) && (::fcntl(fd.get(), F_GETFL) & O_PATH) == 0) {
    // To be kept, so it must be O_PATH: an open file would hold leases, locks and the write count of the file.
    fd = UniqueFd(::open(ProcFdPath(fd.get()).c_str(), O_PATH | O_CLOEXEC));
    if (!fd) return errno_error();
  }
  Found found;
  found.inode = insert(*mount, std::move(fd), looked->st, std::move(handle), parent, name);
  found.st = looked->st;
  show(found.st);
  return found;
}

InodePtr InodeTable::insert(const SourceMount& mount, UniqueFd fd, const struct stat& st, FileHandle handle,
                            const InodePtr& parent, const char* name) {
  std::string key = make_key(mount, handle, st);
  const bool named = !parent || *name != '\0';
  UniqueFd unnamed;
  if (!handle.empty() && !named) std::swap(unnamed, fd);
  if (!handle.empty()) fd.reset();
  InodePtr fresh;  // made, and if unneeded destroyed, outside the mutex
  Leftover leftover;
  MutexLock lock(mutex_);
  auto entry = inodes_.find(key);
  if (entry == inodes_.end()) {
    lock.unlock();
    fresh = std::make_shared<Inode>(mount, std::move(key), std::move(handle), std::move(fd), st);
    fresh->publish();
    lock.lock();
    entry = inodes_.try_emplace(fresh->key(), fresh).first;
  }
  InodePtr inode = entry->second;
  ++inode->lookups_;
  if (!named) std::swap(inode->unnamed_, unnamed);
  if (named && parent) note_name(*inode, parent, name, leftover);
  return inode;
}

void InodeTable::forget(const InodePtr& inode, std::uint64_t count) {
  InodePtr dropped;
  std::vector<Inode::Name> names;  // releases the parents, after the mutex
  MutexLock lock(mutex_);
  inode->lookups_ -= std::min(count, inode->lookups_);
  if (inode->lookups_ > 0 || inode == root_) return;
  auto entry = inodes_.find(inode->key());
  if (entry == inodes_.end() || entry->second != inode) return;
  dropped = std::move(entry->second);
  inodes_.erase(entry);
  // A directory may live on as the parent of a file that has another name elsewhere, and keeps its own name for that.
  // But not in a loop, which would never end by itself.
  if (!inode->is_directory() || !reaches_root(inode.get())) names.swap(inode->names_);
}

bool InodeTable::reaches_root(const Inode* inode) const {
  for (std::size_t depth = 0; depth < kMaxDepth; ++depth) {
    if (inode == root_.get()) return true;
    if (inode->names_.empty()) return false;
    inode = inode->names_.back().parent.get();
  }
  return false;
}

InodePtr InodeTable::find(int fd, const InodePtr& parent) const {
  auto looked = look(fd);
  if (!looked || looked->mount_id != parent->mount().mount_id) return nullptr;
  const SourceMount& mount = parent->mount();
  const FileHandle handle = mount.handles ? handle_of(fd).value_or(FileHandle{}) : FileHandle{};
  const std::string key = make_key(mount, handle, looked->st);
  MutexLock lock(mutex_);
  auto entry = inodes_.find(key);
  return entry == inodes_.end() ? nullptr : entry->second;
}

// REQUIRES: the mutex of the table. A directory has one name; a file's are bounded, the oldest go first.
void InodeTable::note_name(Inode& inode, const InodePtr& parent, std::string_view name, Leftover& leftover) {
  auto& names = inode.names_;
  for (const Inode::Name& have : names) {
    if (have.parent == parent && have.name == name) return;
  }
  std::swap(inode.unnamed_, leftover.unnamed);
  if (inode.is_directory()) names.swap(leftover.names);
  if (names.size() >= kMaxNames) {
    leftover.names.push_back(std::move(names.front()));
    names.erase(names.begin());
  }
  names.push_back({parent, std::string(name)});
}

void InodeTable::add_name(const InodePtr& inode, const InodePtr& parent, std::string_view name) {
  Leftover leftover;
  MutexLock lock(mutex_);
  note_name(*inode, parent, name, leftover);
}

void InodeTable::remove_name(const InodePtr& inode, const InodePtr& parent, std::string_view name) {
  std::vector<Inode::Name> dropped;
  MutexLock lock(mutex_);
  auto& names = inode->names_;
  const auto gone = std::stable_partition(
      names.begin(), names.end(), [&](const Inode::Name& have) { return have.parent != parent || have.name != name; });
  dropped.assign(std::make_move_iterator(gone), std::make_move_iterator(names.end()));
  names.erase(gone, names.end());
}

std::vector<Inode::Name> InodeTable::names(const Inode& inode) const {
  MutexLock lock(mutex_);
  return inode.names_;
}

std::string InodeTable::path_of(const Inode* inode) const {
  std::vector<const std::string*> parts;
  while (inode != root_.get() && !inode->names_.empty() && parts.size() < kMaxDepth) {
    parts.push_back(&inode->names_.back().name);
    inode = inode->names_.back().parent.get();
  }
  std::string path = source_.path() == "/" ? std::string{} : source_.path();
  std::reverse(parts.begin(), parts.end());
  for (const std::string* part : parts) path.append("/").append(*part);
  return path.empty() ? "/" : path;
}

std::vector<std::string> InodeTable::paths(const Inode& inode) const {
  MutexLock lock(mutex_);
  std::vector<std::string> all;
  for (const Inode::Name& name : inode.names_) all.push_back(below(path_of(name.parent.get()), name.name));
  return all;
}

std::string InodeTable::path_in(const Inode& directory, std::string_view name) const {
  MutexLock lock(mutex_);
  return below(path_of(&directory), name);
}

std::string InodeTable::path(const Inode& inode) const {
  MutexLock lock(mutex_);
  if (&inode != root_.get() && inode.names_.empty()) return path_of(root_.get()) + " (deleted)";
  return path_of(&inode);
}

std::string InodeTable::where(const InodePtr& parent, const char* name) const {
  const std::string path = path_in(*parent, name);
  return path.substr(source_.path() == "/" ? 1 : source_.path().size() + 1);
}

Result<struct stat> InodeTable::stat_of(const Inode& inode) const {
  auto fd = inode.path_fd();
  if (!fd) return fd.error();
  auto looked = look(fd->get());
  if (!looked) return Error{looked.error().code == ENOENT ? ESTALE : looked.error().code, {}};  // as Inode::open()
  show(looked->st);
  return looked->st;
}

std::size_t InodeTable::size() const {
  MutexLock lock(mutex_);
  return inodes_.size();
}

}  // namespace flockfs
