#pragma once

#include <sys/types.h>

#include <map>
#include <string>

#include "model/lock_model.h"

namespace flockfs::test::model {

// What can be seen of a daemon without touching any lock: what it has logged, read on from where the last look ended,
// and what its descriptors hold.
class DaemonEyes {
 public:
  DaemonEyes(pid_t daemon, const std::string& log);
  ~DaemonEyes();
  DaemonEyes(const DaemonEyes&) = delete;
  DaemonEyes& operator=(const DaemonEyes&) = delete;

  // Reads what has been added.
  void look();
  // As of the last look: how often a call of the process has begun to wait; how many locks were given back.
  [[nodiscard]] int waits(pid_t process) const;
  [[nodiscard]] int unlocks() const { return unlocks_; }
  // The latest lines, for messages.
  [[nodiscard]] const std::string& recent() const { return recent_; }
  void forget_recent() { recent_.clear(); }

  // Whether all of its threads sleep. The line of the log that says that a call waits is written before the call is in
  // its queue, and what follows from a lock that is given back is done after the line that says so.
  [[nodiscard]] bool daemon_rests() const;

  // The flock(2) locks of the daemon now, by inode number. It is of one moment only if nothing changes meanwhile.
  [[nodiscard]] std::map<ino_t, LockModel::Locks> locks() const;

 private:
  void take(const std::string& line);

  const std::string proc_;
  int log_ = -1;
  std::string rest_;
  std::string recent_;
  std::map<pid_t, int> waits_;
  int unlocks_ = 0;
};

}  // namespace flockfs::test::model
