#include "status/mount_list.h"

#include <charconv>
#include <fstream>
#include <iterator>
#include <optional>

#include "status/socket_name.h"

namespace flockfs {
namespace {

constexpr std::string_view kType = "fuse.flockfs";

std::vector<std::string_view> words_of(std::string_view line) {
  std::vector<std::string_view> words;
  while (!line.empty()) {
    const std::string_view word = line.substr(0, line.find(' '));
    line.remove_prefix(std::min(line.size(), word.size() + 1));
    words.push_back(word);
  }
  return words;
}

bool is_octal(char digit) { return digit >= '0' && digit <= '7'; }

// "\040" and its like: how the kernel writes blanks and backslashes.
std::string unescape(std::string_view text) {
  std::string plain;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '\\' && i + 3 < text.size() && is_octal(text[i + 1]) && is_octal(text[i + 2]) &&
        is_octal(text[i + 3])) {
      plain.push_back(static_cast<char>((text[i + 1] - '0') * 64 + (text[i + 2] - '0') * 8 + (text[i + 3] - '0')));
      i += 3;
    } else {
      plain.push_back(text[i]);
    }
  }
  return plain;
}

// Of "rw,user_id=1000,group_id=...".
uid_t user_in(std::string_view options) {
  constexpr std::string_view kKey = "user_id=";
  uid_t user = 0;
  const std::size_t at = options.find(kKey);
  if (at == std::string_view::npos) return user;
  (void)std::from_chars(options.data() + at + kKey.size(), options.data() + options.size(), user);
  return user;
}

// ID PARENT MAJOR:MINOR ROOT MOUNTPOINT OPTIONS [FIELDS...] - TYPE SOURCE SUPER_OPTIONS (proc(5)).
std::optional<ListedMirror> parse_line(std::string_view line) {
  const auto words = words_of(line);
  std::size_t dash = 6;
  while (dash < words.size() && words[dash] != "-") ++dash;
  if (dash + 3 >= words.size() || words[dash + 1] != kType) return std::nullopt;
  const auto device = parse_device(words[2]);
  if (!device) return std::nullopt;
  int mount = 0;
  (void)std::from_chars(words[0].data(), words[0].data() + words[0].size(), mount);
  return ListedMirror{*device, unescape(words[4]), user_in(words[dash + 3]), mount};
}

}  // namespace

std::vector<ListedMirror> parse_mirrors(std::string_view mountinfo) {
  std::vector<ListedMirror> mirrors;
  while (!mountinfo.empty()) {
    const std::string_view line = mountinfo.substr(0, mountinfo.find('\n'));
    mountinfo.remove_prefix(std::min(mountinfo.size(), line.size() + 1));
    if (auto mirror = parse_line(line)) mirrors.push_back(*std::move(mirror));
  }
  return mirrors;
}

std::vector<ListedMirror> mirrors_of(const std::string& process) {
  std::ifstream file("/proc/" + process + "/mountinfo", std::ios::binary);
  const std::string text{std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
  return parse_mirrors(text);
}

}  // namespace flockfs
