#pragma once

#include "lock/holder_probe.h"

namespace flockfs {

struct Core;

// What client processes have of the mirror's files, from /proc/PID/fdinfo and /proc/PID/maps. Never /proc/PID/fd: a
// stat there would ask the mirror itself. Of the descriptors, those that are of one open file description count once
// where kcmp(2) can tell.
class ProcHolderProbe final : public HolderProbe {
 public:
  // `core` outlives this, and knows the mirror's device before the first question.
  explicit ProcHolderProbe(const Core& core) : core_(core) {}
  std::optional<Holding> holding(pid_t process, const FileId& file) override;
  std::optional<std::map<FileNumber, Holding>> holdings(pid_t process) override;
  FileNumber number_of(const FileId& file) override;
  std::optional<ProcessState> state(pid_t process) override;

 private:
  [[nodiscard]] std::optional<std::map<FileNumber, Holding>> look(pid_t process, FileNumber only) const;
  void leave_out_unlocked(pid_t process, std::map<FileNumber, Holding>& holdings) const;

  const Core& core_;
};

}  // namespace flockfs
