#pragma once

#include <sys/stat.h>

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/result.h"
#include "base/unique_fd.h"
#include "tree/file_handle.h"
#include "tree/source.h"

namespace flockfs {

class Inode;
using InodePtr = std::shared_ptr<Inode>;

[[nodiscard]] inline bool same_file(const struct stat& one, const struct stat& other) {
  return one.st_ino == other.st_ino && one.st_dev == other.st_dev;
}

// A descriptor good for *at() calls and stat (O_PATH): borrowed from the inode or opened for this use. Valid as long as
// the inode is.
class PathFd {
 public:
  explicit PathFd(int borrowed) : fd_(borrowed) {}
  explicit PathFd(UniqueFd owned) : owned_(std::move(owned)), fd_(owned_.get()) {}
  [[nodiscard]] int get() const { return fd_; }

 private:
  UniqueFd owned_;
  int fd_;
};

// One object of the source that the kernel knows. Found again by file handle where the file system has them, else held
// by an O_PATH descriptor: never by path. Thread-safe: all but the names and the attribute record, which InodeTable and
// AttributeRecord guard, and the atomic marks is constant after construction.
class Inode : public std::enable_shared_from_this<Inode> {
 public:
  // A name under which the kernel was told of the object.
  struct Name {
    InodePtr parent;
    std::string name;
    friend bool operator==(const Name&, const Name&) = default;
  };

  Inode(const SourceMount& mount, std::string key, FileHandle handle, UniqueFd path_fd, const struct stat& st);

  // The number under which the kernel knows the inode, and back. REQUIRES for from_number(): the inode is alive (the
  // kernel holds a lookup on it) and was shown to be complete by publish().
  [[nodiscard]] std::uint64_t number() const { return reinterpret_cast<std::uintptr_t>(this); }
  [[nodiscard]] static InodePtr from_number(std::uint64_t number);
  void publish() { complete_.store(true, std::memory_order_release); }

  [[nodiscard]] const SourceMount& mount() const { return mount_; }
  [[nodiscard]] const std::string& key() const { return key_; }
  [[nodiscard]] dev_t dev() const { return dev_; }
  [[nodiscard]] ino_t ino() const { return ino_; }
  // Tells it from another inode that had or will have the same number.
  [[nodiscard]] std::uint64_t generation() const { return generation_; }
  [[nodiscard]] bool is_directory() const { return S_ISDIR(type_); }
  [[nodiscard]] bool is_regular() const { return S_ISREG(type_); }
  [[nodiscard]] bool is_symlink() const { return S_ISLNK(type_); }
  // Whether the kernel is to tell of each close(2) of a descriptor of the file, however it was opened. From the first
  // time on that somebody asks for it.
  [[nodiscard]] bool tells_closes() const { return tells_closes_.load(std::memory_order_relaxed); }
  void tell_closes() { tells_closes_.store(true, std::memory_order_relaxed); }
  // A directory that is shown without what is in it.
  [[nodiscard]] bool is_empty_mount() const { return mount_.empty; }

  // ESTALE when the object is gone.
  [[nodiscard]] Result<PathFd> path_fd() const;

  // Opens for reading or writing; `flags` as in open(2) without O_CREAT. Only regular files and directories: anything
  // else is ENXIO, since opening a FIFO or a device acts. O_APPEND is left out unless the file is append-only.
  [[nodiscard]] Result<UniqueFd> open(int flags) const;

 private:
  [[nodiscard]] Result<UniqueFd> open_with(int flags) const;
  friend class InodeTable;
  friend class AttributeRecord;

  // What the kernel was last told of the attributes; guarded by AttributeRecord.
  struct Told {
    std::int64_t first_ns = 0;  // coarse real time before the earliest look told since the kernel last forgot; 0: none
    std::int64_t ctime_ns = 0;
    std::int64_t size = 0;
    mode_t mode = 0;  // 0: never told
    uid_t uid = 0;
    gid_t gid = 0;
  };

  const SourceMount& mount_;
  const std::string key_;
  const FileHandle handle_;
  const UniqueFd path_fd_;
  const dev_t dev_;
  const ino_t ino_;
  const mode_t type_;
  const std::uint32_t generation_;
  // The kernel hands numbers from one of our threads to another without any synchronisation that a compiler could see.
  std::atomic<bool> complete_{false};
  std::atomic<bool> tells_closes_{false};
  std::uint64_t lookups_ = 0;  // guarded by InodeTable
  std::vector<Name> names_;    // guarded by InodeTable
  // Keeps a file in being that was made without a name, until it gets one: whoever has it by an O_PATH descriptor may
  // open it when nobody else has it open, and no handle finds it then. Guarded by InodeTable.
  UniqueFd unnamed_;
  Told told_;
};

// "/proc/self/fd/N": for the calls that take no descriptor of an O_PATH file; resolving it never leaves the object.
class ProcFdPath {
 public:
  explicit ProcFdPath(int fd);
  [[nodiscard]] const char* c_str() const { return text_; }

 private:
  char text_[32];
};

}  // namespace flockfs
