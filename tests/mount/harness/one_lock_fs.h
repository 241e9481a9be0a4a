#pragma once

#include <string>

#include "harness/child.h"

namespace flockfs::test {

// A file system in memory that makes flock(2) of record locks, as NFS does: each kind excludes the other, and both of
// one open file description are one lock. Mounted on an existing directory until the end; holds a file "f" with
// "contents" and knows no files without a name. Throws if it does not come up.
class OneLockFs {
 public:
  explicit OneLockFs(std::string directory);
  ~OneLockFs();
  OneLockFs(const OneLockFs&) = delete;
  OneLockFs& operator=(const OneLockFs&) = delete;

  // Calls so far that asked for a lock of either kind on the file "f".
  struct Calls {
    int flocks = 0;
    int records = 0;
  };
  [[nodiscard]] Calls calls() const;

 private:
  const std::string directory_;
  Child server_;
};

}  // namespace flockfs::test
