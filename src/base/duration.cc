#include "base/duration.h"

#include <charconv>
#include <cmath>
#include <cstdint>
#include <string>

namespace flockfs {
namespace {

using std::chrono::milliseconds;

Error invalid(std::string_view text, std::string_view reason) {
  return Error{0, "'" + std::string(text) + "' is " + std::string(reason)};
}

// How many milliseconds the unit behind the number stands for; 0 if it is none.
std::int64_t unit_ms(std::string_view unit) {
  if (unit.empty()) return 1;
  if (unit == "s") return 1000;
  if (unit == "min") return 60'000;
  return 0;
}

}  // namespace

Result<milliseconds> parse_duration(std::string_view text, Forever forever) {
  if (text == "-1" && forever == Forever::kAllowed) return kForever;
  const char* const end = text.data() + text.size();
  std::uint64_t number = 0;
  const auto [rest, code] = std::from_chars(text.data(), end, number);
  const std::int64_t unit = code == std::errc::invalid_argument ? 0 : unit_ms({rest, end});
  if (unit == 0) {
    return invalid(text, forever == Forever::kAllowed ? "not a time (N milliseconds, Ns, Nmin or -1)"
                                                      : "not a time (N milliseconds, Ns or Nmin)");
  }
  const auto largest = static_cast<std::uint64_t>(kMaxDuration.count() / unit);
  if (code == std::errc::result_out_of_range || number > largest) return invalid(text, "longer than a year");
  return milliseconds(static_cast<std::int64_t>(number) * unit);
}

Result<std::chrono::duration<double>> parse_seconds(std::string_view text) {
  const char* const end = text.data() + text.size();
  double number = 0;
  const auto [rest, code] = std::from_chars(text.data(), end, number, std::chars_format::fixed);
  // from_chars also takes "inf", "nan" and "-0".
  if (code == std::errc::invalid_argument || rest != end || !std::isfinite(number) || std::signbit(number)) {
    return invalid(text, "not a number of seconds");
  }
  const std::chrono::duration<double> seconds(number);
  if (code == std::errc::result_out_of_range || seconds > kMaxDuration) return invalid(text, "longer than a year");
  return seconds;
}

}  // namespace flockfs
