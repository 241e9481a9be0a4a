#pragma once

#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "cli/option_list.h"

namespace flockfs {

// What mount.flockfs exits with: mount(8), EXIT STATUS.
enum MountExit : int {
  kMountOk = 0,
  kMountUsage = 1,    // wrong call, or no permission
  kMountSystem = 2,   // out of processes, no flockfs to start, ...
  kMountFailed = 32,  // the mount failed
};

// What mount(8) asks for. Plain data.
struct HelperArguments {
  enum class Request { kMount, kHelp, kVersion };

  Request request = Request::kMount;
  std::string source;
  std::string mountpoint;
  std::vector<ListedOption> options;           // of all -o, with -r and -w, in their order
  std::optional<std::string> mount_namespace;  // -N: a process id or a path
  bool fake = false;                           // -f: check, and mount nothing
  bool verbose = false;                        // -v

  // The arguments for flockfs(8), its name first.
  [[nodiscard]] std::vector<std::string> flockfs_arguments() const;
};

// Parses argv[1] and after. Not thread-safe (getopt). The Error's context is what to print.
Result<HelperArguments> parse_helper_arguments(const std::vector<std::string>& arguments);

}  // namespace flockfs
