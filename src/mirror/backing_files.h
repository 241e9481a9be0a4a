#pragma once

#include <sys/stat.h>

#include <atomic>
#include <unordered_map>

#include "base/mutex.h"
#include "mirror/fuse_api.h"
#include "tree/inode.h"

namespace flockfs {

// How the kernel does the I/O of each open inode: by itself on a backing file (passthrough), or by asking us. The
// kernel allows one way and one backing id for an inode as long as it is open (anything else is EIO), so the first open
// decides and the last RELEASE ends it. Thread-safe.
//
// The backing id is registered from a descriptor that carries no lock (O_PATH): the kernel keeps what it is given open,
// and with it every flock(2) of that open file description, beyond the client's close.
class BackingFiles {
 public:
  // `read_only`: nobody writes through this mirror.
  BackingFiles(bool enabled, bool read_only) : enabled_(enabled), read_only_(read_only) {}

  void disable() { enabled_ = false; }
  [[nodiscard]] bool enabled() const { return enabled_; }

  // Of a file that is open: itself, and if there is one an O_PATH descriptor of it (else -1).
  struct Descriptors {
    int file;
    int path;
  };

  // For one open that is about to be answered: the backing id, or 0 for I/O by us. `st` are the file's attributes. Each
  // call needs one close().
  int open(fuse_req_t request, Inode& inode, Descriptors fds, const struct stat& st);

  // At that open's RELEASE. `request` may be null when the connection is gone.
  void close(fuse_req_t request, const Inode& inode);

 private:
  struct Use {
    unsigned opens = 0;
    int id = 0;  // 0: not passed through
  };

  int join(const Inode& inode, int fresh_id, int* unneeded);
  int register_file(fuse_req_t request, const Inode& inode, int path_fd);
  int register_path(fuse_req_t request, int path_fd);

  std::atomic<bool> enabled_;
  const bool read_only_;
  Mutex mutex_;
  std::unordered_map<const Inode*, Use> uses_ GUARDED_BY(mutex_);
};

}  // namespace flockfs
