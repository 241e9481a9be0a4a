#include "status/socket_name.h"

#include <sys/sysmacros.h>

#include <charconv>

namespace flockfs {
namespace {

constexpr std::string_view kPrefix = "status.";

// The whole of `text` as a number.
template <typename Number>
std::optional<Number> parse_number(std::string_view text) {
  Number number{};
  const char* const end = text.data() + text.size();
  const auto [rest, code] = std::from_chars(text.data(), end, number);
  if (code != std::errc{} || rest != end) return std::nullopt;
  return number;
}

}  // namespace

std::string device_text(dev_t device) { return std::to_string(major(device)) + ":" + std::to_string(minor(device)); }

std::optional<dev_t> parse_device(std::string_view text) {
  const std::size_t colon = text.find(':');
  if (colon == std::string_view::npos) return std::nullopt;
  const auto first = parse_number<unsigned>(text.substr(0, colon));
  const auto second = parse_number<unsigned>(text.substr(colon + 1));
  if (!first || !second) return std::nullopt;
  return makedev(*first, *second);
}

std::string to_string(const SocketName& name) {
  return std::string(kPrefix) + device_text(name.device) + "." + std::to_string(name.daemon);
}

std::optional<SocketName> parse_socket_name(std::string_view text) {
  if (!text.starts_with(kPrefix)) return std::nullopt;
  text.remove_prefix(kPrefix.size());
  const std::size_t dot = text.find('.');
  if (dot == std::string_view::npos) return std::nullopt;
  const auto device = parse_device(text.substr(0, dot));
  const auto daemon = parse_number<pid_t>(text.substr(dot + 1));
  if (!device || !daemon || *daemon <= 0) return std::nullopt;
  return SocketName{*device, *daemon};
}

}  // namespace flockfs
