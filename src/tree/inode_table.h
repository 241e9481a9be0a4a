#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "base/mutex.h"
#include "base/result.h"
#include "tree/identity.h"
#include "tree/inode.h"
#include "tree/kept_fds.h"

namespace flockfs {

// An object found, and its attributes as the mirror shows them.
struct Found {
  InodePtr inode;
  struct stat st {};
};

// Every object that the kernel knows, found by identity (so hard links are one inode) and counted as FUSE counts
// lookups. Thread-safe; no system call runs under its mutex. REQUIRES: it outlives its inodes, and its source outlives
// it: an inode that ends gives back what is kept for it.
class InodeTable {
 public:
  // Where handles find nothing, this many descriptors are kept for objects that nobody uses just now: of this machine's
  // own file systems; and of others, where looking again may find another number for the same object (FUSE daemons).
  struct Kept {
    std::size_t local = 256;
    std::size_t remote = 256;
  };
  explicit InodeTable(Source& source) : InodeTable(source, Kept{}) {}
  InodeTable(Source& source, Kept kept);
  // Directories that the source moved about can hold each other by their names.
  ~InodeTable();
  InodeTable(const InodeTable&) = delete;
  InodeTable& operator=(const InodeTable&) = delete;

  // Makes the inode of SOURCE itself, which is never forgotten. To be called once, first.
  Status open_root();
  [[nodiscard]] const InodePtr& root() const { return root_; }

  // Looks `name` up in the source, never following a symlink, and counts one lookup for the kernel. ENOENT if there is
  // none. With `keep`, a descriptor (O_PATH) of it as well, so that it stays in being whatever becomes of its name.
  Result<Found> lookup(const InodePtr& parent, const char* name, UniqueFd* keep = nullptr);

  // The same for an object that is open already: just made, or O_PATH. With a parent, `name` becomes one of its names.
  Result<Found> adopt(UniqueFd fd, const InodePtr& parent, const char* name);

  // The kernel drops `count` lookups.
  void forget(const InodePtr& inode, std::uint64_t count);

  // Keeps an object that has lost its names to a client in being until the kernel forgets it: the client may have it as
  // working directory, or by an O_PATH descriptor. Only for one that does not reopen.
  void pin(const InodePtr& inode, PathFd fd);

  // The inode of an object (an O_PATH descriptor), if the kernel knows it; counts no lookup.
  [[nodiscard]] InodePtr find(int fd, const InodePtr& parent) const;

  // Keeps names up to date where the kernel moves a name without a lookup: rename(2) and link(2). Names that the source
  // changes by itself stay until the identity check at an open finds out.
  void add_name(const InodePtr& inode, const InodePtr& parent, std::string_view name);
  void remove_name(const InodePtr& inode, const InodePtr& parent, std::string_view name);

  // The names under which the kernel knows the inode (a copy).
  [[nodiscard]] std::vector<Inode::Name> names(const Inode& inode) const;

  // The absolute paths in the source by those names, canonical because SOURCE is and lookups follow nothing. Without a
  // name: nothing for `paths`; SOURCE's own with "(deleted)" for `path`, which else gives the newest.
  [[nodiscard]] std::vector<std::string> paths(const Inode& inode) const;
  [[nodiscard]] std::string path(const Inode& inode) const;
  // The path that `name` has or would have in a directory.
  [[nodiscard]] std::string path_in(const Inode& directory, std::string_view name) const;

  // What an object of the source is like as the mirror shows it.
  [[nodiscard]] Result<Looked> look_at(const Result<PathFd>& fd) const;
  void show(struct stat& st) const { st.st_ino = source_.shown_ino(st.st_dev, st.st_ino); }

  [[nodiscard]] std::size_t size() const;

  // Whether so much has been forgotten since this was asked last that its memory should go back to the system.
  bool has_shrunk();

 private:
  struct IdentityHash {
    using is_transparent = void;
    std::size_t operator()(std::string_view identity) const { return std::hash<std::string_view>{}(identity); }
    std::size_t operator()(const InodePtr& inode) const { return (*this)(inode->identity()); }
  };
  struct SameIdentity {
    using is_transparent = void;
    static std::string_view of(std::string_view identity) { return identity; }
    static std::string_view of(const InodePtr& inode) { return inode->identity(); }
    bool operator()(const auto& one, const auto& other) const { return of(one) == of(other); }
  };

  InodePtr insert(const SourceMount& mount, const struct stat& st, const FileHandle& handle, const InodePtr& parent,
                  std::string_view name);
  using Pins = std::unordered_map<const Inode*, PathFd>;
  // What a change of names leaves over; it may close descriptors, so it ends when the mutex is free.
  struct Leftover {
    std::vector<Inode::Name> names;
    Pins::node_type pin;
  };
  void note_name(Inode& inode, const InodePtr& parent, std::string_view name, Leftover& leftover) REQUIRES(mutex_);
  [[nodiscard]] KeptFds& kept_for(const SourceMount& mount) { return mount.remote ? kept_remote_ : kept_; }
  template <typename Visit>
  bool climb(const Inode* inode, Visit visit) const REQUIRES(mutex_);
  [[nodiscard]] bool reaches_root(const Inode* inode) const REQUIRES(mutex_);
  [[nodiscard]] std::string path_of(const Inode* inode) const REQUIRES(mutex_);
  [[nodiscard]] std::string where(const InodePtr& parent, const char* name) const;

  Source& source_;
  KeptFds kept_;
  KeptFds kept_remote_;
  InodePtr root_;
  std::optional<PathFd> root_fd_;  // where every search by name can begin
  mutable Mutex mutex_;
  std::unordered_set<InodePtr, IdentityHash, SameIdentity> inodes_ GUARDED_BY(mutex_);
  Pins pins_ GUARDED_BY(mutex_);
  std::size_t most_ GUARDED_BY(mutex_) = 0;  // inodes, since has_shrunk() was true
};

}  // namespace flockfs
