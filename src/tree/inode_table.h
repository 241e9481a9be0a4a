#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/mutex.h"
#include "base/result.h"
#include "tree/inode.h"

namespace flockfs {

// An object found, and its attributes as the mirror shows them.
struct Found {
  InodePtr inode;
  struct stat st {};
};

// Every object that the kernel knows, found by identity (so hard links are one inode) and counted as FUSE counts
// lookups. Thread-safe; no system call runs under its mutex.
class InodeTable {
 public:
  explicit InodeTable(Source& source) : source_(source) {}
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

  // The attributes of an object of the source as the mirror shows them.
  [[nodiscard]] Result<struct stat> stat_of(const Inode& inode) const;
  void show(struct stat& st) const { st.st_ino = source_.shown_ino(st.st_dev, st.st_ino); }

  [[nodiscard]] std::size_t size() const;

 private:
  InodePtr insert(const SourceMount& mount, UniqueFd fd, const struct stat& st, FileHandle handle,
                  const InodePtr& parent, const char* name);
  // What a change of names leaves over; it may close descriptors, so it ends when the mutex is free.
  struct Leftover {
    std::vector<Inode::Name> names;
    UniqueFd unnamed;
  };
  static void note_name(Inode& inode, const InodePtr& parent, std::string_view name, Leftover& leftover);
  [[nodiscard]] bool reaches_root(const Inode* inode) const REQUIRES(mutex_);
  [[nodiscard]] std::string path_of(const Inode* inode) const REQUIRES(mutex_);
  [[nodiscard]] std::string where(const InodePtr& parent, const char* name) const;

  Source& source_;
  InodePtr root_;
  mutable Mutex mutex_;
  std::unordered_map<std::string_view, InodePtr> inodes_ GUARDED_BY(mutex_);  // the key views Inode::key()
};

}  // namespace flockfs
