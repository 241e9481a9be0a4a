#pragma once

#include <array>
#include <cstddef>
#include <functional>
#include <list>
#include <memory>
#include <optional>
#include <unordered_map>
#include <vector>

#include "base/mutex.h"
#include "base/result.h"
#include "base/unique_fd.h"
#include "tree/name_list.h"
#include "tree/path_fd.h"

namespace flockfs {

class Source;

// O_PATH descriptors of objects that no handle finds again (overlayfs; a daemon without privileges). So many are kept;
// the one that was not used for longest is given up, and when its object is wanted again it is looked for under the
// names by which the kernel knows it: what is found is the same object, or nothing. Whoever holds a PathFd keeps its
// descriptor open, so it is one of the same whether it is kept here or not. Thread-safe; the calls may wait for the
// source, never under the mutex.
class KeptFds {
 public:
  // The names of an inode, oldest first.
  using NamesOf = std::function<std::vector<InodeName>(const Inode& inode)>;

  KeptFds(const Source& source, std::size_t most, NamesOf names_of)
      : source_(source), most_(most), names_of_(std::move(names_of)) {}
  KeptFds(const KeptFds&) = delete;
  KeptFds& operator=(const KeptFds&) = delete;

  // A descriptor of the inode's object. ESTALE if it is not kept and none of its names leads to it.
  Result<PathFd> get(const Inode& inode);

  // The same if it need not be looked for.
  std::optional<PathFd> at_hand(const Inode& inode);

  // The same of an object of which a descriptor has just been opened: keeps that, unless one is kept already.
  PathFd keep(const Inode& inode, UniqueFd fd);

  // The inode ends.
  void drop(const Inode& inode);

  // Of the directories that their handles find only those that were wanted last are kept, for the opens of the files in
  // them, each of which looks at its name: one for each of a few clients.
  std::optional<PathFd> last_directory(const Inode& inode);
  PathFd keep_last_directory(const Inode& inode, UniqueFd fd);

 private:
  using Shared = std::shared_ptr<const UniqueFd>;
  struct Recent {
    const Inode* inode;
    Shared fd;
  };
  struct Entry {
    std::weak_ptr<const UniqueFd> fd;   // kept here, or by others only
    std::list<Recent>::iterator place;  // end(): not kept here
  };

  void make_newest(const Inode& inode, Entry& entry, Shared fd, std::list<Recent>& given_up) REQUIRES(mutex_);
  Result<UniqueFd> look_for(const Inode& inode);
  Result<UniqueFd> walk(const std::vector<InodeName>& way, const PathFd& start) const;

  const Source& source_;
  const std::size_t most_;
  const NamesOf names_of_;
  mutable Mutex mutex_;
  std::list<Recent> recent_ GUARDED_BY(mutex_);  // the newest first
  std::unordered_map<const Inode*, Entry> entries_ GUARDED_BY(mutex_);
  struct Directory {
    const Inode* inode = nullptr;  // may have ended
    std::uint64_t generation = 0;
    Shared fd;
  };
  std::array<Directory, 8> last_ GUARDED_BY(mutex_);  // the newest first
};

}  // namespace flockfs
