#pragma once

#include <string>
#include <string_view>

#include "base/result.h"

namespace flockfs {

// How what is wrong with an option is said; `option` as the user knows it.
[[nodiscard]] inline Error option_error(std::string_view option, const std::string& message) {
  return Error{0, "option '" + std::string(option) + "': " + message};
}

}  // namespace flockfs
