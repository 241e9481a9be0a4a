#pragma once

#include <sys/types.h>

#include <string>

#include "base/unique_fd.h"
#include "harness/deadline.h"

namespace flockfs::test {

// A process that watches over one mount from outside. When the deadline of the whole test passes, or the test dies in
// whatever way, it aborts the FUSE connection, detaches the mount and kills the daemon; so neither a hung mirror nor a
// killed test leaves anything behind. Used by the thread of the test only.
class Guardian {
 public:
  Guardian(unsigned connection, std::string mountpoint, pid_t daemon, Millis deadline);
  ~Guardian();
  Guardian(const Guardian&) = delete;
  Guardian& operator=(const Guardian&) = delete;

  // Ends the watch. False if the guardian had to step in.
  [[nodiscard]] bool dismiss();

 private:
  pid_t pid_ = -1;
  UniqueFd leash_;
};

}  // namespace flockfs::test
