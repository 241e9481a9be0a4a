#pragma once

#include <sys/types.h>

#include <csignal>
#include <string>

#include "harness/child.h"

namespace flockfs::test {

// A FUSE file system with two files, "f" and "g", of kFailingSize bytes 'x', mounted on an existing directory until the
// end. What is asked about "f" fails when told so; "g" is always well. Writes are forgotten, locks are the kernel's
// own. Throws if it does not come up.
inline constexpr off_t kFailingSize = 1 << 20;

class FailingFs {
 public:
  enum Call { kLook, kOpen, kRead, kWrite, kSync, kChange, kCalls };  // kChange: of names and attributes

  explicit FailingFs(std::string directory);
  ~FailingFs();
  FailingFs(const FailingFs&) = delete;
  FailingFs& operator=(const FailingFs&) = delete;

  // From now on such calls give this errno; 0: they are well again.
  void fail(Call call, int error);
  // From its return on nothing is answered, until it goes on.
  void stop();
  void go_on() { server_.signal(SIGCONT); }
  // The server is killed; returns when it is gone.
  void die();

 private:
  struct Shared;

  const std::string directory_;
  Shared* const shared_;
  Child server_;
};

}  // namespace flockfs::test
