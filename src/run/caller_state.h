#pragma once

#include <csignal>
#include <string>
#include <vector>

#include "base/result.h"

namespace flockfs {

// What the caller has handed down and COMMAND is to find as if flockfs-run were not there. Used by one thread.
class CallerState {
 public:
  // Notes it, blocks all signals (they are read from a descriptor), and opens /dev/null in place of standard
  // descriptors that are closed, until exec. REQUIRES: nothing has been opened yet.
  static CallerState take();

  // In the child, before exec: signals as they were.
  void give_back() const;

  // In a child that is to have none of it: the inherited descriptors but the standard ones are closed.
  void close_descriptors() const;

  // Whether the caller had this signal ignored.
  [[nodiscard]] bool ignores(int signal) const;

  // Looks for descriptors of files and directories at or below one of these (canonical) paths, which would reach the
  // source past its mirror, and for directories above them: they belong to the caller's mount namespace. An Error names
  // the first; of the standard ones there are only warnings.
  [[nodiscard]] Status check_descriptors(const std::vector<std::string>& sources,
                                         std::vector<std::string>& warnings) const;

 private:
  sigset_t mask_{};
  struct sigaction child_ {};
  std::vector<int> descriptors_;
  bool listed_ = false;  // they could be
};

}  // namespace flockfs
