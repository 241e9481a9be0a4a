#pragma once

#include <filesystem>
#include <string>
#include <string_view>

#include "base/path.h"
#include "base/result.h"
#include "cli/command_line.h"

namespace flockfs {

// Makes SOURCE and MOUNTPOINT canonical; both must be directories.
Status resolve_operands(CommandLine& command);

// Makes the paths among the options canonical: prefix and exclude, relative to SOURCE and not outside of it, and
// log_file, relative to the working directory and not below MOUNTPOINT. What does not exist (yet) is no error.
// REQUIRES: resolve_operands() has succeeded, and the working directory is still the caller's.
Status resolve_option_paths(CommandLine& command);

// Makes one path canonical; it must be a directory. `role` is what a message calls it.
Status make_canonical_directory(std::string_view role, std::string& path);

// `path` with the symlinks of its existing part resolved.
Result<std::string> make_canonical(const std::filesystem::path& path);

}  // namespace flockfs
