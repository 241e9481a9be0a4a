#pragma once

#include <string_view>

#include "base/result.h"
#include "cli/command_line.h"

namespace flockfs {

// Makes SOURCE and MOUNTPOINT canonical; both must be directories.
Status resolve_operands(CommandLine& command);

// Makes the paths among the options canonical: prefix and exclude, relative to SOURCE and not outside of it, and
// log_file, relative to the working directory and not below MOUNTPOINT. What does not exist (yet) is no error.
// REQUIRES: resolve_operands() has succeeded, and the working directory is still the caller's.
Status resolve_option_paths(CommandLine& command);

// Whether `path` is `directory` or below it, by whole components. Both are canonical.
bool is_at_or_below(std::string_view path, std::string_view directory);

}  // namespace flockfs
