#pragma once

#include <sys/stat.h>

#include <atomic>
#include <cstdint>
#include <memory>
#include <unordered_map>

#include "base/mutex.h"
#include "mirror/fuse_api.h"
#include "mirror/open_file.h"
#include "tree/inode.h"

namespace flockfs {

// How the kernel does the I/O of each open inode: by itself on a backing file (passthrough), or by asking us. The
// kernel allows one way and one backing id for an inode as long as it is open (anything else is EIO), so the first open
// decides and the last RELEASE ends it. Thread-safe.
//
// The kernel reads and writes a backing file with the rights of the thread that registered it. For writers those are
// nobody's (setfsuid(2)), which costs more than the registration; for a reader whose lock keeps writers away, the
// daemon's own. No write(2) goes by such an id: who comes to write all the same (the reader's process, somebody let in
// without a lock) reads and writes through us, as FOPEN_DIRECT_IO goes before FOPEN_PASSTHROUGH (fs/fuse/file.c); only
// its mappings are the kernel's, whose stores are made with the client's rights.
//
// The backing id is registered from a descriptor that carries no lock (O_PATH): the kernel keeps what it is given open,
// and with it every flock(2) of that open file description, beyond the client's close.
class BackingFiles {
 public:
  // `read_only`: nobody writes through this mirror.
  BackingFiles(bool enabled, bool read_only) : enabled_(enabled), read_only_(read_only) {}

  void disable() { enabled_ = false; }
  [[nodiscard]] bool enabled() const { return enabled_; }

  struct Way {
    int id = 0;          // the backing id; 0: I/O by us
    bool by_us = false;  // with the id, which an inode's opens have in common: reads and writes by us all the same
  };

  // For one open that is about to be answered. `path_fd`: an O_PATH descriptor of the file if there is one, else -1.
  // `st` are the file's attributes. Each call needs one close().
  Way open(fuse_req_t request, const std::shared_ptr<const OpenFile>& file, int path_fd, const struct stat& st);

  // One that the inode is open by; null if there is none at hand.
  [[nodiscard]] std::shared_ptr<const OpenFile> open_file_of(const Inode& inode) const;

  // At that open's RELEASE. `request` may be null when the connection is gone.
  void close(fuse_req_t request, const Inode& inode);

 private:
  enum class Rights : std::uint8_t { kOwn, kNobodys };
  struct Use {
    unsigned opens = 0;
    int id = 0;  // 0: not passed through
    Rights rights = Rights::kNobodys;
    std::weak_ptr<const OpenFile> file;  // one of them
  };

  static Way join(Use& use, const std::shared_ptr<const OpenFile>& file);
  int register_file(fuse_req_t request, const Inode& inode, int path_fd, Rights rights);
  int register_path(fuse_req_t request, int path_fd, Rights rights);

  std::atomic<bool> enabled_;
  const bool read_only_;
  mutable Mutex mutex_;
  std::unordered_map<const Inode*, Use> uses_ GUARDED_BY(mutex_);
};

}  // namespace flockfs
