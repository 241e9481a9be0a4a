#pragma once

#include <string>

#include "harness/child.h"

namespace flockfs::test {

// A file system that has no flock(2), mounted on an existing directory until the end: flock(2) on its one file, "f"
// with "contents", is EOPNOTSUPP. Throws if it does not come up.
class LocklessFs {
 public:
  explicit LocklessFs(std::string directory);
  ~LocklessFs();
  LocklessFs(const LocklessFs&) = delete;
  LocklessFs& operator=(const LocklessFs&) = delete;

 private:
  const std::string directory_;
  Child server_;
};

}  // namespace flockfs::test
