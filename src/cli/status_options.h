#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace flockfs {

// What a command line of flockfs-status(1) asks for. Plain data.
struct StatusCommand {
  enum class Request { kShow, kHelp, kVersion };

  Request request = Request::kShow;
  bool json = false;
  bool watch = false;
  std::string target;  // a mount point, or a process
};

// One option of flockfs-status(1), none of which takes a value: parsing, --help, and the checks of the man page come
// from the table.
struct StatusOption {
  std::string_view name;  // "--name" without the dashes
  char letter = '\0';     // 0: none
  std::string_view help;  // one line, no full stop
  void (*apply)(StatusCommand& out) = nullptr;
};

// In the order of --help.
std::span<const StatusOption> status_option_table();

// Parses the arguments (without the program's name). The Error's context is what to print.
Result<StatusCommand> parse_status_command_line(const std::vector<std::string>& arguments);

std::string status_help_text();

}  // namespace flockfs
