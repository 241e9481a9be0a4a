#pragma once

#include <sys/types.h>

#include <chrono>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/log.h"
#include "base/result.h"
#include "mirror/mirror_config.h"

namespace flockfs {

// Whose command line it is: they share their options, but for some, and differ in some defaults.
enum class Program { kFlockfs, kRun };

[[nodiscard]] std::string_view name_of(Program program);

// What a command line asks for. Plain data.
struct CommandLine {
  enum class Request { kMount, kHelp, kVersion };

  Program program = Program::kFlockfs;
  Request request = Request::kMount;
  MirrorConfig mirror;  // paths as they were typed, until resolve_operands() and resolve_option_paths()
  LogConfig log;
  std::string config_file;
  bool foreground = false;
  std::optional<bool> allow_other;                            // none: as fits the user
  std::optional<std::chrono::duration<double>> attr_timeout;  // none: as fits the program
  std::optional<std::chrono::duration<double>> entry_timeout;

  // Of flockfs-run.
  std::vector<std::string> sources;  // as they were typed; mirror.source and mirror.mountpoint stay empty
  std::vector<std::string> command;
  bool quiet = false;
  bool fail_if_unlocked = false;
};

// Parses the arguments of flockfs (without its name) for a user with this effective id, and before them what the file
// of --config says, so that they beat it. The Error's context is what to print; nothing else is looked at.
Result<CommandLine> parse_command_line(const std::vector<std::string>& arguments, uid_t user);

// The same for flockfs-run: [OPTIONS] SOURCE... -- COMMAND [ARGUMENT...]
Result<CommandLine> parse_run_command_line(const std::vector<std::string>& arguments, uid_t user);

// Applies the options of a "-o" list, in its order, each over those before it.
Status apply_option_list(std::string_view list, CommandLine& out);

// The text of --version.
std::string version_text(Program program = Program::kFlockfs);

}  // namespace flockfs
