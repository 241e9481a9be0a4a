#pragma once

#include <sys/types.h>

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/log.h"
#include "base/result.h"
#include "mirror/mirror_config.h"

namespace flockfs {

// What a command line asks for. Plain data.
struct CommandLine {
  enum class Request { kMount, kHelp, kVersion };

  Request request = Request::kMount;
  MirrorConfig mirror;  // paths as they were typed, until resolve_operands() and resolve_option_paths()
  LogConfig log;
  bool foreground = false;
  std::optional<bool> allow_other;  // none: as fits the user
};

// Parses the arguments of flockfs (without its name) for a user with this effective id. The Error's context is what to
// print; nothing is looked at outside the arguments.
Result<CommandLine> parse_command_line(const std::vector<std::string>& arguments, uid_t user);

// Applies the options of a "-o" list, in its order, each over those before it.
Status apply_option_list(std::string_view list, CommandLine& out);

// The text of --version.
std::string version_text();

}  // namespace flockfs
