#pragma once

#include <sys/types.h>

#include <string>
#include <vector>

#include "base/result.h"

namespace flockfs {

// Where COMMAND runs: the caller's working directory and root directory, but in the mirrors. Paths lead into what is
// mounted on them; a working directory from before the mount, and the root directory itself, do not.
class Place {
 public:
  // Notes the working directory. REQUIRES: nothing is mounted yet.
  static Result<Place> here(const std::vector<std::string>& sources);

  // A mirror is mounted on this (canonical) path.
  void add_mirror(const std::string& source, dev_t device) { mirrors_.push_back({source, device}); }

  // Moves this process there, then proves that every SOURCE and the working directory are shown by a mirror. An Error
  // means that COMMAND must not run. For the child before exec.
  [[nodiscard]] Status enter() const;

 private:
  struct Mirror {
    std::string source;
    dev_t device;
  };

  [[nodiscard]] Status enter_root(const Mirror& mirror) const;
  [[nodiscard]] const Mirror* mirror_of(const std::string& path) const;

  std::vector<std::string> sources_;
  std::string directory_;
  std::vector<Mirror> mirrors_;
};

}  // namespace flockfs
