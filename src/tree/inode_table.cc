#include "tree/inode_table.h"

#include <fcntl.h>

#include <algorithm>

#include "tree/identity.h"

namespace flockfs {
namespace {

// Names of one file that are remembered.
constexpr std::size_t kMaxNames = 1024;

// Memory is given back when half of the inodes have gone and they were this many.
constexpr std::size_t kMuchForgotten = 1 << 12;

std::string below(std::string path, std::string_view name) {
  if (path != "/") path += '/';
  return path += name;
}

}  // namespace

InodeTable::InodeTable(Source& source, Kept kept)
    : source_(source),
      kept_(source, kept.local, [this](const Inode& inode) { return names(inode); }),
      kept_remote_(source, kept.remote, [this](const Inode& inode) { return names(inode); }) {}

InodeTable::~InodeTable() {
  std::vector<Inode::Name> ended;
  MutexLock lock(mutex_);
  for (const InodePtr& inode : inodes_) inode->names_.remove_all(ended);
  lock.unlock();
}

// Calls visit(name) for each name on the way up from the inode; false if that does not end at the root. Names of
// directories that the source moved about behind the kernel's back can form a loop (found in Brent's way).
template <typename Visit>
bool InodeTable::climb(const Inode* inode, Visit visit) const {
  const Inode* mark = nullptr;
  std::size_t steps = 0;
  for (std::size_t lap = 1; inode != root_.get(); inode = inode->names_.newest().parent.get()) {
    if (inode == mark || inode->names_.empty()) return false;
    if (++steps == lap) {
      mark = inode;
      lap *= 2;
      steps = 0;
    }
    visit(inode->names_.newest().name);
  }
  return true;
}

Status InodeTable::open_root() {
  UniqueFd fd(::openat(source_.root_fd(), ".", O_PATH | O_DIRECTORY | O_CLOEXEC));
  if (!fd) return errno_error(source_.path());
  auto found = adopt(std::move(fd), nullptr, "");
  if (!found) return found.error();
  root_ = found->inode;
  auto root_fd = root_->path_fd();
  if (!root_fd) return root_fd.error();
  root_fd_ = *std::move(root_fd);
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
  auto looked = flockfs::look_at(fd.get());
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
  const FileHandle handle = identifying_handle(*mount, fd.get());
  const bool reopens = mount->reopens && !handle.empty();
  const bool unnamed = parent && *name == '\0';
  if ((!reopens || unnamed) && (::fcntl(fd.get(), F_GETFL) & O_PATH) == 0) {
    // To be kept, so it must be O_PATH: an open file would hold leases, locks and the write count of the file.
    fd = UniqueFd(::open(ProcFdPath(fd.get()).c_str(), O_PATH | O_CLOEXEC));
    if (!fd) return errno_error();
  }
  Found found;
  found.inode = insert(*mount, looked->st, handle, parent, name);
  if (!reopens) {
    PathFd path = kept_for(*mount).keep(*found.inode, std::move(fd));
    if (unnamed) pin(found.inode, std::move(path));
  } else if (unnamed) {
    pin(found.inode, PathFd(std::move(fd)));
  }
  found.st = looked->st;
  show(found.st);
  return found;
}

InodePtr InodeTable::insert(const SourceMount& mount, const struct stat& st, const FileHandle& handle,
                            const InodePtr& parent, std::string_view name) {
  std::string identity = identity_of(mount, handle, st);
  InodePtr fresh;  // made, and if unneeded destroyed, outside the mutex
  Leftover leftover;
  MutexLock lock(mutex_);
  auto entry = inodes_.find(std::string_view(identity));
  if (entry == inodes_.end()) {
    lock.unlock();
    fresh = InodePtr(new Inode(mount, kept_for(mount), identity, !handle.empty(), st));
    fresh->publish();
    lock.lock();
    entry = inodes_.insert(fresh).first;
    most_ = std::max(most_, inodes_.size());
  }
  InodePtr inode = *entry;
  ++inode->lookups_;
  if (parent && !name.empty()) note_name(*inode, parent, name, leftover);
  return inode;
}

void InodeTable::pin(const InodePtr& inode, PathFd fd) {
  MutexLock lock(mutex_);
  pins_.try_emplace(inode.get(), std::move(fd));
}

void InodeTable::forget(const InodePtr& inode, std::uint64_t count) {
  InodePtr dropped;
  Leftover leftover;
  MutexLock lock(mutex_);
  inode->lookups_ -= std::min(count, inode->lookups_);
  if (inode->lookups_ > 0 || inode == root_) return;
  auto entry = inodes_.find(inode);
  if (entry == inodes_.end() || *entry != inode) return;
  dropped = *entry;
  inodes_.erase(entry);
  leftover.pin = pins_.extract(inode.get());
  // A directory may live on as the parent of a file that has another name elsewhere, and keeps its own name for that.
  // But not in a loop, which would never end by itself.
  if (!inode->is_directory() || !reaches_root(inode.get())) inode->names_.remove_all(leftover.names);
}

bool InodeTable::has_shrunk() {
  MutexLock lock(mutex_);
  if (most_ < kMuchForgotten || inodes_.size() > most_ / 2) return false;
  most_ = inodes_.size();
  inodes_.rehash(0);
  return true;
}

bool InodeTable::reaches_root(const Inode* inode) const {
  return climb(inode, [](const std::string& /*name*/) {});
}

InodePtr InodeTable::find(int fd, const InodePtr& parent) const {
  auto looked = flockfs::look_at(fd);
  const SourceMount& mount = parent->mount();
  if (!looked || looked->mount_id != mount.mount_id) return nullptr;
  const std::string identity = identity_of(mount, identifying_handle(mount, fd), looked->st);
  MutexLock lock(mutex_);
  auto entry = inodes_.find(std::string_view(identity));
  return entry == inodes_.end() ? nullptr : *entry;
}

// A directory has one name; a file's are bounded, the oldest go first.
void InodeTable::note_name(Inode& inode, const InodePtr& parent, std::string_view name, Leftover& leftover) {
  auto& names = inode.names_;
  if (names.contains(parent, name)) return;
  leftover.pin = pins_.extract(&inode);
  if (inode.is_directory()) names.remove_all(leftover.names);
  if (names.size() >= kMaxNames) names.remove_oldest(leftover.names);
  names.add(parent, name);
}

void InodeTable::add_name(const InodePtr& inode, const InodePtr& parent, std::string_view name) {
  Leftover leftover;
  MutexLock lock(mutex_);
  note_name(*inode, parent, name, leftover);
}

void InodeTable::remove_name(const InodePtr& inode, const InodePtr& parent, std::string_view name) {
  std::vector<Inode::Name> dropped;
  MutexLock lock(mutex_);
  inode->names_.remove(parent, name, dropped);
}

std::vector<Inode::Name> InodeTable::names(const Inode& inode) const {
  MutexLock lock(mutex_);
  return inode.names_.all();
}

// Of directories in a loop: their names up to the point where it is noticed.
std::string InodeTable::path_of(const Inode* inode) const {
  std::vector<const std::string*> parts;
  (void)climb(inode, [&parts](const std::string& name) { parts.push_back(&name); });
  std::string path = source_.path() == "/" ? std::string{} : source_.path();
  std::reverse(parts.begin(), parts.end());
  for (const std::string* part : parts) path.append("/").append(*part);
  return path.empty() ? "/" : path;
}

std::vector<std::string> InodeTable::paths(const Inode& inode) const {
  MutexLock lock(mutex_);
  std::vector<std::string> all;
  for (const Inode::Name& name : inode.names_.all()) all.push_back(below(path_of(name.parent.get()), name.name));
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

Result<Looked> InodeTable::look_at(const Result<PathFd>& fd) const {
  if (!fd) return fd.error();
  auto looked = flockfs::look_at(fd->get());
  if (!looked) return Error{looked.error().code == ENOENT ? ESTALE : looked.error().code, {}};  // as Inode::open()
  show(looked->st);
  return looked;
}

std::size_t InodeTable::size() const {
  MutexLock lock(mutex_);
  return inodes_.size();
}

}  // namespace flockfs
