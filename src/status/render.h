#pragma once

#include <cstddef>
#include <limits>
#include <string>
#include <vector>

#include "base/result.h"
#include "status/text.h"

namespace flockfs {

struct Screen {
  std::size_t columns = 80;  // 40 at least
  std::size_t rows = std::numeric_limits<std::size_t>::max();
  Charset charset = Charset::kUtf8;
};

// A report, as status_report() made it, as lines for people: none is longer than the screen is wide, and where they are
// more than its rows the last one says how many are left out. Whatever is in the report, no control character is in the
// lines. An Error if it is no report.
[[nodiscard]] Result<std::vector<std::string>> render_status(const std::string& report, const Screen& screen);

}  // namespace flockfs
