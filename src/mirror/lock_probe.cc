#include "mirror/lock_probe.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <fstream>
#include <random>
#include <string>
#include <utility>

#include "base/log.h"
#include "tree/inode.h"

namespace flockfs {
namespace {

// Entries of SOURCE that are looked at for a regular file.
constexpr int kMostEntries = 1000;

// File systems whose servers know one kind of lock only, so that flock(2) is made of the other: NFS (nfs(5)), and SMB
// under its three numbers.
constexpr std::array<std::uint32_t, 4> kEmulating = {0x6969, 0xff534d42, 0xfe534d42, 0x517b};

// Both of one file, nobody else's; invalid where none can be made.
struct OwnFile {
  UniqueFd one;
  UniqueFd other;
};

using Directory = std::unique_ptr<DIR, int (*)(DIR*)>;

UniqueFd unnamed_file(int directory) {
  return UniqueFd(::openat(directory, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600));
}

OwnFile unnamed_file_twice(int directory) {
  OwnFile file;
  file.one = unnamed_file(directory);
  if (file.one) file.other = UniqueFd(::open(ProcFdPath(file.one.get()).c_str(), O_RDWR | O_CLOEXEC));
  return file;
}

// For file systems that know no files without a name; it has one until both descriptors are open.
OwnFile named_file(int directory) {
  OwnFile file;
  std::random_device random;
  const std::string name = ".flockfs-" + std::to_string(random()) + std::to_string(random());
  file.one = UniqueFd(::openat(directory, name.c_str(), O_CREAT | O_EXCL | O_RDWR | O_CLOEXEC, 0600));
  if (!file.one) return {};
  file.other = UniqueFd(::openat(directory, name.c_str(), O_RDWR | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC));
  ::unlinkat(directory, name.c_str(), 0);
  return file;
}

UniqueFd file_that_is_there(int parent) {
  const int listing = ::openat(parent, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  const Directory directory(listing < 0 ? nullptr : ::fdopendir(listing), &::closedir);
  if (!directory) {
    if (listing >= 0) ::close(listing);
    return {};
  }
  for (int seen = 0; seen < kMostEntries; ++seen) {
    const dirent* entry = ::readdir(directory.get());
    if (entry == nullptr) break;
    if (entry->d_type != DT_REG) continue;
    UniqueFd fd(::openat(listing, entry->d_name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC));
    struct stat st {};
    if (fd && ::fstat(fd.get(), &st) == 0 && S_ISREG(st.st_mode)) return fd;
  }
  return {};
}

bool emulates_flock(int directory) {
  struct statfs fs {};
  if (::fstatfs(directory, &fs) != 0) return false;
  return std::ranges::find(kEmulating, static_cast<std::uint32_t>(fs.f_type)) != kEmulating.end();
}

// In a mirror of flockfs the second open for writing would wait for the first one for ever.
bool is_mirror(dev_t device) {
  const std::string number = " " + std::to_string(major(device)) + ":" + std::to_string(minor(device)) + " ";
  std::ifstream mounts("/proc/self/mountinfo");
  for (std::string line; std::getline(mounts, line);) {
    if (line.find(number) != std::string::npos && line.find(" - fuse.flockfs ") != std::string::npos) return true;
  }
  return false;
}

}  // namespace

bool is_unsupported(int error) { return error == ENOLCK || error == EOPNOTSUPP || error == ENOSYS; }

LockSupport::LockSupport(LockKind kind, std::string source) : source_(std::move(source)) {
  if (kind != LockKind::kFlockAndOfd) {
    locker_ = make_file_locker(kind);
    return;
  }
  auto pair = std::make_unique<DeviceLocker>(make_file_locker(kind), make_file_locker(LockKind::kFlock));
  pair_ = pair.get();
  locker_ = std::move(pair);
}

Status LockSupport::probe(const SourceMount& root) {
  root_ = &root;
  return ask(root, true);
}

void LockSupport::meet(const SourceMount& mount) {
  if (&mount == root_) return;
  {
    MutexLock lock(mutex_);
    if (met_.contains(&mount)) return;
  }
  // Two threads that meet it together both ask: neither may lock a file before it knows.
  const Status asked = ask(mount, false);
  bool first = false;
  {
    MutexLock lock(mutex_);
    first = met_.insert(&mount).second;
  }
  if (asked || !first) return;
  log_write(
      LogLevel::kWarning,
      LogLine("unsupported").quoted("path", path_of(mount)).quoted("reason", Error{asked.error().code, {}}.message()));
}

// `others_files`: whether a file of somebody else's may be opened. Not in the middle of an open: it might wait.
Status LockSupport::ask(const SourceMount& mount, bool others_files) {
  const int directory = mount.dir.get();
  if (directory < 0) return {};  // a single file, mounted
  choose_kind(mount);
  UniqueFd fd = unnamed_file(directory);
  if (!fd && others_files) fd = file_that_is_there(directory);
  if (!fd) return {};
  const int error = locker_->try_lock(fd.get(), LockMode::kShared);
  if (error == 0) (void)locker_->unlock(fd.get());
  if (!is_unsupported(error)) return {};
  return Error{error,
               path_of(mount) + ": its file system has no locks (on_unsupported=unlocked mounts it all the same)"};
}

// Whether flock alone does for both kinds. Where nothing can be written, and so nothing asked, there are only shared
// locks, which exclude nobody; but what is read-only here may not be so elsewhere on the same device.
void LockSupport::choose_kind(const SourceMount& mount) {
  if (pair_ == nullptr) return;
  const int directory = mount.dir.get();
  if (mount.fuse && is_mirror(mount.dev)) return;
  OwnFile own = unnamed_file_twice(directory);
  if (!own.other) own = named_file(directory);
  struct stat st {};
  if (::fstat(directory, &st) != 0) return;
  FlockLocker flocks;
  OfdLocker records;
  const bool alone =
      own.other ? exclude_each_other(flocks, own.one.get(), records, own.other.get()) : emulates_flock(directory);
  if (!alone || !pair_->use_other(st.st_dev)) return;
  log_write(LogLevel::kInfo, LogLine("flock_alone")
                                 .quoted("path", path_of(mount))
                                 .text("reason", own.other ? "record_locks_exclude_flock" : "file_system_type"));
}

std::string LockSupport::path_of(const SourceMount& mount) const {
  return mount.where.empty() ? source_ : source_ + "/" + mount.where;
}

}  // namespace flockfs
