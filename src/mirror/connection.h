#pragma once

#include "base/result.h"
#include "base/unique_fd.h"
#include "mirror/core.h"

namespace flockfs {

// The FUSE session: libfuse's state for one /dev/fuse connection, and what is agreed with the kernel at INIT. Used by
// one thread but for what libfuse itself does in handlers. Its end closes the device, which aborts whatever is left.
class Connection {
 public:
  // `core` outlives this; sets core.session.
  explicit Connection(Core& core) : core_(core) {}
  ~Connection();
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;

  Status open(UniqueFd device);

 private:
  Core& core_;
};

}  // namespace flockfs
