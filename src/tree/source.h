#pragma once

#include <sys/types.h>

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <unordered_map>
#include <utility>

#include "base/mutex.h"
#include "base/result.h"
#include "base/unique_fd.h"

namespace flockfs {

// One file system mounted in the source tree, as far as flockfs has met it. Constant after construction; thread-safe.
struct SourceMount {
  std::uint64_t mount_id = 0;  // statx(2) stx_mnt_id of the clone's mount
  dev_t dev = 0;               // of the mount's root; btrfs subvolumes below it have others
  std::string where;           // the place of its root below SOURCE when it was met: "", "a/b"
  std::uint16_t index = 0;     // small number of this mount, part of each inode's key
  UniqueFd dir;                // the mount's root, O_RDONLY: what open_by_handle_at(2) wants; invalid: no handles here
  bool handles = false;        // a handle tells an object from all others, for good
  bool reopens = false;        // and finds it again: no descriptor is kept for an inode
  bool empty = false;          // procfs and its like, or not to be shown: an empty directory
  bool remote = false;         // not a file system of this machine's own disks or memory: its clock may not be ours
  bool open_may_wait =
      false;          // open(2) may wait for others whatever the flags: remote, or overlayfs, which may have such below
  bool fuse = false;  // a hard link may be another inode to the kernel there, with other locks
  bool stacked = false;  // overlayfs
};

// How SOURCE is opened.
struct SourceOptions {
  std::string path;  // canonical, absolute
  bool read_only = false;
  bool noatime = false;
  bool hide_submounts = false;  // directories of other file systems than SOURCE's are shown empty
};

// The source tree: a private clone of the mounts at and below SOURCE (open_tree(2)), so that what is mounted later, the
// mirror itself included, does not exist in it; only *at() calls below its descriptor ever touch the source. Where the
// privilege for a clone is missing, a plain descriptor. Thread-safe.
class Source {
 public:
  static Result<std::unique_ptr<Source>> open(const SourceOptions& options);

  [[nodiscard]] const std::string& path() const { return path_; }
  [[nodiscard]] int root_fd() const { return root_.get(); }  // O_PATH
  [[nodiscard]] const SourceMount& root_mount() const { return *root_mount_; }

  // The mount that an object reached by a lookup is on. `fd` is the object (O_PATH); when its mount is met for the
  // first time it is that mount's root, whose place below SOURCE is `where` ("" for SOURCE itself, "a/b").
  Result<const SourceMount*> mount_of(int fd, std::uint64_t mount_id, dev_t dev, mode_t mode, const std::string& where);

  // The inode number the mirror shows: the source's own on SOURCE's file system; on others it is set apart by a number
  // that depends only on where they are, so that equal numbers of two file systems are not taken for hard links of one
  // file.
  ino_t shown_ino(dev_t dev, ino_t ino) const;

  // Whether mounts made from now on, the mirror itself included, exist in the source: without a clone they do.
  [[nodiscard]] bool sees_later_mounts() const { return !cloned_; }
  // REQUIRES: before any lookup. `dev` is the mirror's own device, `covered` the directory below it (O_PATH).
  void set_mirror(dev_t dev, UniqueFd covered);
  // What a lookup has reached (O_PATH); in place of the mirror's own root the directory below it. The mirror itself can
  // be asked nothing, since we would wait for our own answer, and a descriptor of it would keep it mounted.
  Result<UniqueFd> below_mirror(UniqueFd fd) const;

 private:
  Source(std::string path, bool hide_submounts) : path_(std::move(path)), hide_submounts_(hide_submounts) {}
  std::unique_ptr<SourceMount> probe_mount(int fd, std::uint64_t mount_id, dev_t dev, mode_t mode) const;
  [[nodiscard]] bool hides(dev_t dev, mode_t mode) const;
  void set_apart(dev_t dev, const std::string& where) REQUIRES(mutex_);

  const std::string path_;
  const bool hide_submounts_;
  UniqueFd root_;
  bool cloned_ = false;
  const SourceMount* root_mount_ = nullptr;
  dev_t mirror_dev_ = 0;
  UniqueFd covered_;

  mutable Mutex mutex_;
  // By their number, and whether they are hidden.
  std::map<std::pair<std::uint64_t, bool>, std::unique_ptr<SourceMount>> mounts_ GUARDED_BY(mutex_);
  std::unordered_map<dev_t, std::uint64_t> apart_
      GUARDED_BY(mutex_);  // device -> what its inode numbers are mixed with
};

// Raises the limit of open descriptors to what the machine allows, then gives up CAP_SYS_RESOURCE for good, so that the
// daemon never writes into what quotas and reserves keep from its clients. To be called before any
// thread but the log's runs.
Status prepare_limits();

// How many descriptors this process may have open.
std::size_t descriptor_limit();

}  // namespace flockfs
