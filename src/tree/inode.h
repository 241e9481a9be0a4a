#pragma once

#include <sys/stat.h>

#include <atomic>
#include <cstdint>
#include <optional>
#include <string_view>

#include "base/result.h"
#include "base/unique_fd.h"
#include "tree/identity.h"
#include "tree/name_list.h"
#include "tree/path_fd.h"
#include "tree/source.h"

namespace flockfs {

class KeptFds;

[[nodiscard]] inline bool same_file(const struct stat& one, const struct stat& other) {
  return one.st_ino == other.st_ino && one.st_dev == other.st_dev;
}

// One object of the source that the kernel knows. Found again by file handle where that can be had, else by a
// descriptor that is kept or by its names (KeptFds); never by path. There may be millions: its size counts.
// Thread-safe: all but the names and the attribute record, which InodeTable and AttributeRecord guard, and the atomic
// marks is constant after construction.
class Inode {
 public:
  using Name = InodeName;

  // `identity`: identity_of() the object, by handle if `by_handle`. `kept` finds it if its handle does not.
  Inode(const SourceMount& mount, KeptFds& kept, std::string_view identity, bool by_handle, const struct stat& st);
  ~Inode() = default;
  Inode(const Inode&) = delete;
  Inode& operator=(const Inode&) = delete;

  // The number under which the kernel knows the inode, and back. REQUIRES for from_number(): the inode is alive (the
  // kernel holds a lookup on it) and was shown to be complete by publish().
  [[nodiscard]] std::uint64_t number() const { return reinterpret_cast<std::uintptr_t>(this); }
  [[nodiscard]] static InodePtr from_number(std::uint64_t number);
  void publish() { complete_.store(true, std::memory_order_release); }

  [[nodiscard]] const SourceMount& mount() const { return mount_; }
  [[nodiscard]] std::string_view identity() const { return identity_.bytes(); }
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
  // Whether this descriptor's object is the inode's.
  [[nodiscard]] bool is(int fd) const;

  // Whether its handle finds it as long as it exists. If not, an object that has lost its names is found only as long
  // as somebody keeps a PathFd of it.
  [[nodiscard]] bool reopens() const { return by_handle_ && mount_.reopens; }

  // ESTALE when the object is gone, or is not found any more.
  [[nodiscard]] Result<PathFd> path_fd() const;
  // The same, but only if it is not to be looked for by name.
  [[nodiscard]] std::optional<PathFd> path_fd_at_hand() const;
  // The same, of an object that `fd` has open already. REQUIRES: it does not reopen.
  [[nodiscard]] Result<PathFd> path_fd_by(int fd) const;

  // Opens for reading or writing; `flags` as in open(2) without O_CREAT. Only regular files and directories: anything
  // else is ENXIO, since opening a FIFO or a device acts. O_APPEND is left out unless the file is append-only.
  [[nodiscard]] Result<UniqueFd> open(int flags) const;

 private:
  friend class InodeTable;
  friend class AttributeRecord;
  friend void intrusive_ptr_add_ref(const Inode* inode) noexcept;
  friend void intrusive_ptr_release(const Inode* inode) noexcept;

  [[nodiscard]] std::string_view handle() const;
  [[nodiscard]] Result<UniqueFd> open_with(int flags) const;
  [[nodiscard]] bool unref() const { return references_.fetch_sub(1, std::memory_order_acq_rel) == 1; }
  static void end(Inode* inode) noexcept;

  // What the kernel was last told of the attributes; guarded by AttributeRecord.
  struct Told {
    std::int64_t first_ns = 0;  // coarse real time before the earliest look told since the kernel last forgot; 0: none
    std::int64_t ctime_ns = 0;
    std::int64_t size = 0;
    uid_t uid = 0;
    gid_t gid = 0;
    std::uint16_t mode = 0;  // 0: never told
  };

  mutable std::atomic<std::uint32_t> references_{0};
  const std::uint32_t generation_;
  const SourceMount& mount_;
  KeptFds& kept_;
  const Identity identity_;
  const dev_t dev_;
  const ino_t ino_;
  std::uint64_t lookups_ = 0;  // guarded by InodeTable
  NameList names_;             // guarded by InodeTable
  Told told_;
  const std::uint16_t type_;  // S_IFMT
  const bool by_handle_;
  // The kernel hands numbers from one of our threads to another without any synchronisation that a compiler could see.
  std::atomic<bool> complete_{false};
  std::atomic<bool> tells_closes_{false};
};

inline void intrusive_ptr_add_ref(const Inode* inode) noexcept {
  inode->references_.fetch_add(1, std::memory_order_relaxed);
}

inline void intrusive_ptr_release(const Inode* inode) noexcept {
  if (inode->unref()) Inode::end(const_cast<Inode*>(inode));
}

}  // namespace flockfs
