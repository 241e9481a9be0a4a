#include "mirror/lock_file_text.h"

#include <limits.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cstdint>

namespace flockfs {
namespace {

constexpr std::string_view kTitle = "flockfs lock files 1\n";
constexpr std::string_view kSource = "source ";
constexpr std::string_view kNothing = "-";
// A line that was written to its end says so.
constexpr std::string_view kEnd = ".";
constexpr std::size_t kMostHandleBytes = 256;

std::string hex(std::string_view bytes) {
  if (bytes.empty()) return std::string(kNothing);
  std::string text;
  text.reserve(bytes.size() * 2);
  for (const char c : bytes) {
    text += "0123456789abcdef"[static_cast<unsigned char>(c) >> 4];
    text += "0123456789abcdef"[static_cast<unsigned char>(c) & 15];
  }
  return text;
}

int digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

std::optional<std::string> unhex(std::string_view text, std::size_t most) {
  if (text == kNothing) return std::string{};
  if (text.empty() || text.size() % 2 != 0 || text.size() / 2 > most) return std::nullopt;
  std::string bytes;
  bytes.reserve(text.size() / 2);
  for (std::size_t i = 0; i < text.size(); i += 2) {
    const int high = digit(text[i]);
    const int low = digit(text[i + 1]);
    if (high < 0 || low < 0) return std::nullopt;
    bytes += static_cast<char>(high * 16 + low);
  }
  return bytes;
}

template <typename Number>
std::optional<Number> number(std::string_view text) {
  Number value{};
  const auto [rest, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{} || rest != text.data() + text.size()) return std::nullopt;
  return value;
}

bool is_component(std::string_view name) {
  return !name.empty() && name.size() <= NAME_MAX && name != "." && name != ".." &&
         name.find('/') == std::string_view::npos && name.find('\0') == std::string_view::npos;
}

bool is_directory(std::string_view path) {
  if (path.empty()) return true;
  if (path.size() >= PATH_MAX) return false;
  for (;;) {
    const std::size_t end = std::min(path.find('/'), path.size());
    if (!is_component(path.substr(0, end))) return false;
    if (end == path.size()) return true;
    path.remove_prefix(end + 1);
  }
}

bool is_sound(const RecordedLockFile& file) {
  return file.identity.certain() && file.identity.handle.size() <= kMostHandleBytes && is_component(file.name) &&
         file.name.size() > kLockSuffix.size() && file.name.ends_with(kLockSuffix) && is_directory(file.directory);
}

}  // namespace

std::string record_head(std::string_view source) {
  return std::string(kTitle).append(kSource).append(hex(source)).append("\n");
}

std::optional<std::string> parse_record_head(std::string_view text) {
  if (!text.starts_with(kTitle)) return std::nullopt;
  text.remove_prefix(kTitle.size());
  const std::size_t end = text.find('\n');
  if (end == std::string_view::npos || !text.starts_with(kSource)) return std::nullopt;
  auto source = unhex(text.substr(kSource.size(), end - kSource.size()), PATH_MAX);
  if (!source || !source->starts_with('/')) return std::nullopt;
  return source;
}

// "+ OWNER INODE BIRTH HANDLE DIRECTORY NAME ."; bytes in hexadecimal.
std::optional<std::string> record_line(const RecordedLockFile& file) {
  if (!is_sound(file)) return std::nullopt;
  std::string line = "\n+ ";
  line.append(std::to_string(file.identity.owner)).append(" ");
  line.append(std::to_string(file.identity.ino)).append(" ");
  line.append(std::to_string(file.identity.birth_ns)).append(" ");
  line.append(hex(file.identity.handle)).append(" ");
  line.append(hex(file.directory)).append(" ").append(hex(file.name)).append(" ").append(kEnd).append("\n");
  if (line.size() > kMostRecordLine) return std::nullopt;
  return line;
}

std::optional<RecordedLockFile> parse_record_line(std::string_view line) {
  if (line.size() > kMostRecordLine) return std::nullopt;
  std::array<std::string_view, 8> words;
  for (std::size_t i = 0; i < words.size(); ++i) {
    const std::size_t end = line.find(' ');
    if ((end == std::string_view::npos) != (i + 1 == words.size())) return std::nullopt;
    words[i] = line.substr(0, end);
    line.remove_prefix(std::min(words[i].size() + 1, line.size()));
  }
  if (words[0] != "+" || words[7] != kEnd) return std::nullopt;
  const auto owner = number<uid_t>(words[1]);
  const auto ino = number<std::uint64_t>(words[2]);
  const auto birth = number<std::int64_t>(words[3]);
  auto handle = unhex(words[4], kMostHandleBytes);
  auto directory = unhex(words[5], PATH_MAX);
  auto name = unhex(words[6], NAME_MAX);
  if (!owner || !ino || !birth || !handle || !directory || !name) return std::nullopt;
  RecordedLockFile file{{*ino, *birth, *std::move(handle), *owner}, *std::move(directory), *std::move(name)};
  if (!is_sound(file)) return std::nullopt;
  return file;
}

}  // namespace flockfs
