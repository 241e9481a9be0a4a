#pragma once

#include <sys/types.h>

#include <vector>

#include "base/result.h"

namespace flockfs {

// On whose behalf something is done in the source.
struct Caller {
  uid_t uid = 0;
  gid_t gid = 0;
  mode_t umask = 0;
  std::vector<gid_t> groups;  // supplementary; filled in only where they decide
};

// Lets the calling thread act in file systems as a client for a scope: fsuid, fsgid, umask and, if given, supplementary
// groups, all of this thread alone (raw system calls: glibc's wrappers change the whole process). While it lasts the
// thread has a plain user's rights; kMaker puts back CAP_DAC_OVERRIDE and CAP_MKNOD, for making what the kernel has
// already allowed the client to make, and kPlainMaker does not, for making what the kernel has not been asked about;
// only these two use the umask. Always returns to the daemon's own identity; if that fails the process ends, since it
// would act with wrong rights from then on. A daemon without privileges stays who it is.
class CallerScope {
 public:
  enum class Rights { kPlain, kPlainMaker, kMaker };
  CallerScope(const Caller& caller, Rights rights);
  ~CallerScope();
  CallerScope(const CallerScope&) = delete;
  CallerScope& operator=(const CallerScope&) = delete;

  // Whether the thread has become the caller. If not, nothing may be done on the caller's behalf: EPERM.
  [[nodiscard]] bool ok() const { return ok_; }

 private:
  bool ok_ = true;
  bool user_ = false;
  bool group_ = false;
  bool groups_ = false;
};

// Acts as nobody (65534) for a scope, capabilities that are not about files kept: for registering a kernel passthrough
// file, which the kernel writes with the credentials of the thread that registered it.
class NobodyScope {
 public:
  NobodyScope();
  ~NobodyScope();
  NobodyScope(const NobodyScope&) = delete;
  NobodyScope& operator=(const NobodyScope&) = delete;

  [[nodiscard]] bool ok() const { return ok_; }

 private:
  bool ok_ = true;
  bool switched_ = false;
};

// To be called by each thread that makes objects for clients, before it does: gives it a umask of its own.
Status own_umask();

// See prepare_limits(). Without the groups that the daemon was started with, a client who has none acts with none.
Status drop_groups();
Status drop_resource_capability();

}  // namespace flockfs
