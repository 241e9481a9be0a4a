#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "cli/option_list.h"

namespace flockfs {

// One setting of a configuration file.
struct ConfigSetting {
  unsigned line = 0;
  ListedOption option;
};

// A configuration file: on each line an option's long name, for those that take a value then '=' and the value as it
// is, but for the blanks around it: no quotes, no escapes. Empty lines, and those that begin with '#' or ';', are
// comments.
std::vector<ConfigSetting> parse_config(std::string_view text);

// Reads such a file, which says what a daemon of this user does: a regular file of a bounded size, of the user's or of
// root's, that nobody else may write. The Error names it.
Result<std::vector<ConfigSetting>> read_config_file(const std::string& path);

}  // namespace flockfs
