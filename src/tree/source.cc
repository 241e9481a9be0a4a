#include "tree/source.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <linux/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>

#include <algorithm>
#include <array>
#include <csignal>
#include <fstream>
#include <functional>

#include "base/log.h"
#include "tree/credentials.h"
#include "tree/file_handle.h"

namespace flockfs {
namespace {

// Not in every distribution's headers (include/uapi/linux/magic.h, fs/*/).
constexpr std::uint32_t kFuseMagic = 0x65735546;
constexpr std::uint32_t kOverlayMagic = 0x794c7630;

// File systems of this machine's own disks and memory: open(2) with O_NONBLOCK waits for nobody, times are by this
// machine's clock, and a handle means one object for good. Any other may be served by somebody who makes us wait.
constexpr std::array<std::uint32_t, 21> kLocal = {
    0xEF53,      // ext2, ext3, ext4
    0x58465342,  // xfs
    0x9123683E,  // btrfs
    0x01021994,  // tmpfs
    0x858458f6,  // ramfs
    0x958458f6,  // hugetlbfs
    0xF2F52010,  // f2fs
    0x3153464a,  // jfs
    0x52654973,  // reiserfs
    0x3434,      // nilfs2
    0x4d44,      // vfat
    0x2011BAB0,  // exfat
    0x7366746e,  // ntfs3
    0x9660,      // iso9660
    0x15013346,  // udf
    0x73717368,  // squashfs
    0xE0F5E1E2,  // erofs
    0x28cd3d45,  // cramfs
    0x2fc12fc1,  // zfs
    0xca451a4e,  // bcachefs
    kOverlayMagic,
};

// File systems whose files are the kernel speaking: reading them means nothing in a backup, opening them can act.
constexpr std::array<std::uint32_t, 14> kEmpty = {
    0x9fa0,      // proc
    0x62656572,  // sysfs
    0x27e0eb,    // cgroup
    0x63677270,  // cgroup2
    0x74726163,  // tracefs
    0x64626720,  // debugfs
    0x73636673,  // securityfs
    0xcafe4a11,  // bpf
    0x6165676C,  // pstore
    0x62656570,  // configfs
    0x42494e4d,  // binfmt_misc
    0x65735543,  // fusectl
    0x1cd1,      // devpts
    0x6e736673,  // nsfs
};

template <typename List>
bool contains(const List& list, std::uint32_t magic) {
  return std::find(list.begin(), list.end(), magic) != list.end();
}

int open_tree_clone(const char* path) {
  return static_cast<int>(::syscall(SYS_open_tree, AT_FDCWD, path, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_RECURSIVE));
}

int set_mount_attributes(int fd, const mount_attr& attributes) {
  return static_cast<int>(
      ::syscall(SYS_mount_setattr, fd, "", AT_EMPTY_PATH | AT_RECURSIVE, &attributes, sizeof attributes));
}

// Read-only and noatime hold on the clone itself, below everything the daemon and the kernel's passthrough do. They are
// set apart from each other: in a user namespace the kernel refuses NOATIME, and a refused call sets nothing.
Status apply_attributes(int clone, const SourceOptions& options) {
  mount_attr own{};
  own.propagation = MS_PRIVATE;
  if (set_mount_attributes(clone, own) != 0)
    return errno_error("cannot make the clone of " + options.path + " private");
  if (options.read_only) {
    mount_attr ro{};
    ro.attr_set = MOUNT_ATTR_RDONLY;
    if (set_mount_attributes(clone, ro) != 0) return errno_error("cannot make " + options.path + " read-only");
  }
  if (options.noatime) {
    mount_attr noatime{};
    noatime.attr_set = MOUNT_ATTR_NOATIME;
    noatime.attr_clr = MOUNT_ATTR__ATIME;
    if (set_mount_attributes(clone, noatime) != 0) {
      return errno_error("cannot keep access times of " + options.path + " (option noatime)");
    }
  }
  return {};
}

Result<UniqueFd> open_root(const SourceOptions& options, bool& cloned) {
  UniqueFd clone(open_tree_clone(options.path.c_str()));
  cloned = clone.valid();
  if (clone) {
    if (auto done = apply_attributes(clone.get(), options); !done) return done.error();
    return clone;
  }
  if (errno != EPERM && errno != ENOSYS) return errno_error("cannot open " + options.path);
  if (options.read_only || options.noatime) {
    return errno_error("options ro and noatime need the right to clone mounts of " + options.path);
  }
  UniqueFd plain(::open(options.path.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
  if (!plain) return errno_error("cannot open " + options.path);
  return plain;
}

}  // namespace

Result<std::unique_ptr<Source>> Source::open(const SourceOptions& options) {
  std::unique_ptr<Source> source(new Source(options.path, options.hide_submounts));
  auto root = open_root(options, source->cloned_);
  if (!root) return root.error();
  source->root_ = *std::move(root);

  struct statx info {};
  if (::statx(source->root_.get(), "", AT_EMPTY_PATH, STATX_BASIC_STATS | STATX_MNT_ID, &info) != 0) {
    return errno_error("cannot stat " + options.path);
  }
  if (!S_ISDIR(info.stx_mode)) return Error{ENOTDIR, options.path};
  auto mount = source->mount_of(source->root_.get(), info.stx_mnt_id, makedev(info.stx_dev_major, info.stx_dev_minor),
                                info.stx_mode, "");
  if (!mount) return mount.error();
  if ((*mount)->empty) return Error{0, options.path + ": a file system of the kernel's own cannot be mirrored"};
  source->root_mount_ = *mount;
  return source;
}

std::unique_ptr<SourceMount> Source::probe_mount(int fd, std::uint64_t mount_id, dev_t dev, mode_t mode) const {
  auto mount = std::make_unique<SourceMount>();
  mount->mount_id = mount_id;
  mount->dev = dev;
  struct statfs fs {};
  if (::fstatfs(fd, &fs) == 0) {
    const auto magic = static_cast<std::uint32_t>(fs.f_type);
    mount->remote = !contains(kLocal, magic);
    mount->fuse = magic == kFuseMagic;
    mount->empty = contains(kEmpty, magic) || hides(dev, mode);
    mount->stacked = magic == kOverlayMagic;
    mount->open_may_wait = mount->remote || mount->stacked;
  }
  if (!mount->empty && S_ISDIR(mode)) {
    mount->dir = UniqueFd(::openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    // A remote file system may forget what a handle meant, or cannot tell at once. overlayfs has others for a file that
    // it has copied up, unless it is told to keep them the same (nfs_export), and then they reopen too.
    if (mount->dir && !mount->remote) {
      mount->reopens = handles_work(mount->dir.get());
      mount->handles = mount->reopens || (!mount->stacked && handle_of(mount->dir.get()));
    }
  }
  return mount;
}

bool Source::hides(dev_t dev, mode_t mode) const {
  return hide_submounts_ && S_ISDIR(mode) && root_mount_ != nullptr && dev != root_mount_->dev;
}

Result<const SourceMount*> Source::mount_of(int fd, std::uint64_t mount_id, dev_t dev, mode_t mode,
                                            const std::string& where) {
  // A subvolume of btrfs has the mount of what is above it, which is not hidden.
  const std::pair key(mount_id, hides(dev, mode));
  {
    MutexLock lock(mutex_);
    if (auto known = mounts_.find(key); known != mounts_.end()) {
      if (apart_.find(dev) == apart_.end()) set_apart(dev, where);
      return known->second.get();
    }
  }
  auto fresh = probe_mount(fd, mount_id, dev, mode);
  fresh->where = where;
  const bool tell = fresh->empty;
  const SourceMount* mount = nullptr;
  {
    MutexLock lock(mutex_);
    if (mounts_.size() >= UINT16_MAX) return Error{ENFILE, "too many mounts below " + path_};
    fresh->index = static_cast<std::uint16_t>(mounts_.size());
    auto [entry, inserted] = mounts_.try_emplace(key, std::move(fresh));
    set_apart(dev, where);
    mount = entry->second.get();
    if (!inserted) return mount;
  }
  if (tell) {
    log_write(LogLevel::kInfo, LogLine("empty")
                                   .quoted("path", path_ + "/" + where)
                                   .text("reason", key.second ? "hidden_submount" : "kernel_file_system"));
  }
  return mount;
}

void Source::set_mirror(dev_t dev, UniqueFd covered) {
  mirror_dev_ = dev;
  covered_ = std::move(covered);
}

Result<UniqueFd> Source::below_mirror(UniqueFd fd) const {
  if (!covered_) return fd;
  struct statx info {};  // the device is known without asking the file system
  constexpr int kFlags = AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW | AT_STATX_DONT_SYNC;
  if (::statx(fd.get(), "", kFlags, STATX_MNT_ID, &info) != 0) return errno_error();
  if (makedev(info.stx_dev_major, info.stx_dev_minor) != mirror_dev_) return fd;
  UniqueFd below(::fcntl(covered_.get(), F_DUPFD_CLOEXEC, 0));
  if (!below) return errno_error();
  return below;
}

// The first device is SOURCE's own and is shown as it is. Inode numbers of ordinary file systems stay below 2^48.
void Source::set_apart(dev_t dev, const std::string& where) {
  if (apart_.find(dev) != apart_.end()) return;
  if (apart_.empty()) {
    apart_.emplace(dev, 0);
    return;
  }
  std::uint64_t hash = 0xcbf29ce484222325ULL;  // FNV-1a: the same on every mount, whatever the C++ library
  for (const char c : where) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3ULL;
  std::uint64_t number = (hash >> 32 ^ hash) & 0xffff;
  const auto taken = [this](std::uint64_t n) REQUIRES(mutex_) {
    return n == 0 ||
           std::any_of(apart_.begin(), apart_.end(), [n](const auto& entry) { return entry.second == n << 48; });
  };
  for (unsigned tries = 0; tries <= 0xffff && taken(number); ++tries) number = (number + 1) & 0xffff;
  apart_.emplace(dev, number << 48);
}

ino_t Source::shown_ino(dev_t dev, ino_t ino) const {
  if (dev == root_mount_->dev) return ino;
  MutexLock lock(mutex_);
  auto entry = apart_.find(dev);
  return entry == apart_.end() ? ino : ino ^ entry->second;
}

Status prepare_limits() {
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) return errno_error("cannot read the limit of open files");
  // With the right to, as high as the machine goes (fs.nr_open); else as high as this process may.
  rlim_t most = 0;
  std::ifstream("/proc/sys/fs/nr_open") >> most;
  const rlimit highest{std::max(most, limit.rlim_max), std::max(most, limit.rlim_max)};
  if (::setrlimit(RLIMIT_NOFILE, &highest) != 0) {
    limit.rlim_cur = limit.rlim_max;
    if (::setrlimit(RLIMIT_NOFILE, &limit) != 0) return errno_error("cannot raise the limit of open files");
  }
  // A write beyond an inherited RLIMIT_FSIZE must be the client's EFBIG, not the daemon's end.
  ::signal(SIGXFSZ, SIG_IGN);
  const rlimit unlimited{RLIM_INFINITY, RLIM_INFINITY};
  rlimit size{};
  if (::setrlimit(RLIMIT_FSIZE, &unlimited) != 0 && ::getrlimit(RLIMIT_FSIZE, &size) == 0) {
    size.rlim_cur = size.rlim_max;
    ::setrlimit(RLIMIT_FSIZE, &size);
  }
  if (auto dropped = drop_groups(); !dropped) return dropped;
  return drop_resource_capability();
}

std::size_t descriptor_limit() {
  rlimit limit{};
  return ::getrlimit(RLIMIT_NOFILE, &limit) == 0 ? static_cast<std::size_t>(limit.rlim_cur) : 1024;
}

}  // namespace flockfs
