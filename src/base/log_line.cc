#include <array>
#include <charconv>
#include <cstddef>

#include "base/log.h"
#include "base/printable.h"

namespace flockfs {
namespace {

void append_key(std::string& line, std::string_view key) {
  line.push_back(' ');
  line.append(key).push_back('=');
}

}  // namespace

LogLine::LogLine(std::string_view event) : line_("event=") { line_.append(event); }

LogLine& LogLine::text(std::string_view key, std::string_view value) {
  append_key(line_, key);
  std::string escaped;
  if (append_escaped(escaped, value)) {
    line_.append(escaped);
  } else {
    line_.append("\"").append(escaped).append("\"");
  }
  return *this;
}

LogLine& LogLine::quoted(std::string_view key, std::string_view value) {
  append_key(line_, key);
  line_.push_back('"');
  (void)append_escaped(line_, value);
  line_.push_back('"');
  return *this;
}

LogLine& LogLine::number(std::string_view key, std::int64_t value) {
  append_key(line_, key);
  line_.append(std::to_string(value));
  return *this;
}

LogLine& LogLine::ms(std::string_view key, double value) {
  append_key(line_, key);
  std::array<char, 400> digits{};  // the longest double in fixed notation has 309 digits before its point
  const auto [end, code] =
      std::to_chars(digits.data(), digits.data() + digits.size(), value, std::chars_format::fixed, 3);
  line_.append(digits.data(), code == std::errc{} ? end : digits.data());
  return *this;
}

}  // namespace flockfs
