#pragma once

#include <atomic>
#include <cstdint>
#include <memory>

#include "lock/filter.h"
#include "lock/lock_engine.h"
#include "mirror/backing_files.h"
#include "mirror/counters.h"
#include "mirror/mirror_config.h"
#include "mirror/open_file.h"
#include "mirror/open_slots.h"
#include "mirror/registry.h"
#include "tree/attribute_record.h"
#include "tree/dir_stream.h"
#include "tree/inode_table.h"
#include "tree/listing_record.h"
#include "tree/source.h"

namespace flockfs {

class BlockingPool;
class Flocks;
class HolderProbe;
class LockFileWaits;
class LockSupport;
class SignalProbe;
class WaitWatcher;
class OpenPipeline;
class RecordLocks;
class ReleaseDesk;
class Workers;

// A directory that a client has open.
struct OpenDirectory {
  OpenDirectory(OpenSlots::Slot slot_in, UniqueFd fd) : slot(std::move(slot_in)), stream(std::move(fd)) {}
  OpenSlots::Slot slot;
  DirStream stream;
  bool cached = false;  // the kernel may cache what it reads of it
};

// A file that the kernel has open for its attributes as chattr(1) sets them: no client's open.
struct AttributeOpen {
  OpenSlots::Slot slot;
  UniqueFd fd;
};

// What the handlers of one mirror share. The pointers are set before the first request but INIT and constant then; each
// part is thread-safe by itself.
struct Core {
  // `shared`: where to count; null: nobody else looks. Outlives this.
  Core(MirrorConfig config_in, std::unique_ptr<Source> source_in, Counters* shared = nullptr)
      : config(std::move(config_in)),
        source(std::move(source_in)),
        inodes(*source, kept_descriptors(*source)),
        filter(config.source, config.prefixes, config.excludes),
        backing(config.passthrough, config.read_only),
        slots(descriptors_for_opens(*source), source->root_mount().reopens ? 1 : 2),
        counters(shared != nullptr ? *shared : own_counters) {}

  const MirrorConfig config;
  const std::unique_ptr<Source> source;
  InodeTable inodes;
  AttributeRecord attributes;
  ListingRecord listings;
  const Filter filter;
  BackingFiles backing;
  OpenSlots slots;
  Registry<OpenFile> files;
  Registry<AttributeOpen> attribute_opens{std::uint64_t{1} << 63};
  Registry<OpenDirectory> directories;
  fuse_session* session = nullptr;
  BlockingPool* pool = nullptr;
  SignalProbe* signals = nullptr;
  HolderProbe* holders = nullptr;
  LockSupport* lock_support = nullptr;
  OpenPipeline* opens = nullptr;
  Flocks* flocks = nullptr;
  RecordLocks* records = nullptr;
  ReleaseDesk* releases = nullptr;
  Workers* workers = nullptr;
  LockFiles* lock_files = nullptr;  // null: writers take no lock files
  LockFileWaits* lock_file_waits = nullptr;
  dev_t device = 0;  // the mounted mirror's
  Counters own_counters;
  Counters& counters;
  WaitWatcher* watcher = nullptr;  // null: nobody watches
  std::atomic<std::uint64_t> watched_waits{0};

  std::atomic<bool> stopping{false};  // no new wait begins

  // A slot for one more open file or directory; empty if there is none left, which the log is told once.
  [[nodiscard]] OpenSlots::Slot take_slot();
  void say_exhausted();

  // A descriptor of the inode's object, to ask for its attributes. While it is open in the mirror it is an open file's
  // own: not for changes, which may wait (a lease of nfsd's, a frozen file system), or its lock outlives its RELEASE.
  [[nodiscard]] Result<PathFd> path_fd_of(const Inode& inode);
  // What the object is like as the mirror shows it.
  [[nodiscard]] Result<Looked> look_at(const Inode& inode) { return inodes.look_at(path_fd_of(inode)); }

  // The inode of a nodeid. REQUIRES: the kernel holds a lookup on it, as it does on each node that a request names.
  [[nodiscard]] InodePtr inode(fuse_ino_t node) const {
    return node == FUSE_ROOT_ID ? inodes.root() : Inode::from_number(node);
  }
  [[nodiscard]] fuse_ino_t node(const Inode& inode) const {
    return &inode == inodes.root().get() ? FUSE_ROOT_ID : inode.number();
  }

 private:
  // How the descriptors that the process may have are shared out.
  static InodeTable::Kept kept_descriptors(const Source& source);
  static std::size_t descriptors_for_opens(const Source& source);
};

}  // namespace flockfs
