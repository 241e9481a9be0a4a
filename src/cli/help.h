#pragma once

#include <string>

#include "cli/command_line.h"

namespace flockfs {

// The text of --help, made from the option table; no line is longer than 80 columns.
std::string help_text(Program program = Program::kFlockfs);

}  // namespace flockfs
