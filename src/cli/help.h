#pragma once

#include <string>

namespace flockfs {

// The text of --help, made from the option table; no line is longer than 80 columns.
std::string help_text();

}  // namespace flockfs
