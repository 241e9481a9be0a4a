#include "status/text.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <utility>
#include <vector>

#include "base/printable.h"

namespace flockfs {
namespace {

bool is_in(char32_t point, const auto& ranges) {
  return std::ranges::any_of(ranges,
                             [point](const auto& range) { return point >= range.first && point <= range.second; });
}

// East Asian wide and full-width characters, and pictures (Unicode TR 11, by whole blocks).
constexpr std::array<std::pair<char32_t, char32_t>, 10> kWide{{{0x1100, 0x115F},
                                                               {0x2E80, 0xA4CF},
                                                               {0xA960, 0xA97F},
                                                               {0xAC00, 0xD7A3},
                                                               {0xF900, 0xFAFF},
                                                               {0xFE30, 0xFE6F},
                                                               {0xFF00, 0xFF60},
                                                               {0xFFE0, 0xFFE6},
                                                               {0x1F300, 0x1FAFF},
                                                               {0x20000, 0x3FFFD}}};
constexpr std::array<std::pair<char32_t, char32_t>, 5> kCombining{
    {{0x0300, 0x036F}, {0x1AB0, 0x1AFF}, {0x20D0, 0x20FF}, {0x200B, 0x200F}, {0xFE00, 0xFE0F}}};

std::size_t width_of(char32_t point) { return is_in(point, kCombining) ? 0 : is_in(point, kWide) ? 2 : 1; }

struct Character {
  std::string_view bytes;
  std::size_t width;
};

std::vector<Character> characters_of(std::string_view text) {
  std::vector<Character> characters;
  while (!text.empty()) {
    const Utf8 sequence = decode_utf8(text);
    const std::size_t length = std::max<std::size_t>(sequence.length, 1);
    characters.push_back({text.substr(0, length), sequence.length == 0 ? 1 : width_of(sequence.code_point)});
    text.remove_prefix(length);
  }
  return characters;
}

}  // namespace

std::string printable(std::string_view text, Charset charset) {
  std::string result;
  while (!text.empty()) {
    const Utf8 sequence = decode_utf8(text);
    const std::size_t length = std::max<std::size_t>(sequence.length, 1);
    const std::string_view character = text.substr(0, length);
    text.remove_prefix(length);
    if (character == "\"" || (length > 1 && charset == Charset::kUtf8)) {
      if (character == "\"" || is_printable(sequence.code_point)) {
        result.append(character);
        continue;
      }
    }
    if (length == 1) {
      (void)append_escaped(result, character);
      continue;
    }
    // Byte by byte none of them is UTF-8.
    for (const char& byte : character) (void)append_escaped(result, std::string_view(&byte, 1));
  }
  return result;
}

std::size_t width_of(std::string_view text) {
  std::size_t width = 0;
  for (const Character& character : characters_of(text)) width += character.width;
  return width;
}

std::string shortened(const std::string& text, std::size_t width) {
  constexpr std::string_view kGap = "...";
  if (width_of(text) <= width) return text;
  if (width <= kGap.size()) return std::string(kGap.substr(0, width));
  const std::vector<Character> all = characters_of(text);
  // The end, where the name of the file is, gets more of an odd number.
  const std::size_t before = (width - kGap.size()) / 2;
  const std::size_t after = width - kGap.size() - before;
  std::string head;
  std::size_t used = 0;
  for (const Character& character : all) {
    if ((used += character.width) > before) break;
    head.append(character.bytes);
  }
  std::string tail;
  used = 0;
  for (std::size_t at = all.size(); at > 0 && (used += all[at - 1].width) <= after; --at) {
    tail.insert(0, all[at - 1].bytes);
  }
  return head.append(kGap).append(tail);
}

std::string left_aligned(std::string text, std::size_t width) {
  const std::size_t used = width_of(text);
  if (used < width) text.append(width - used, ' ');
  return text;
}

std::string right_aligned(const std::string& text, std::size_t width) {
  const std::size_t used = width_of(text);
  return used < width ? std::string(width - used, ' ') + text : text;
}

std::string time_text(double seconds) {
  // Far from where the conversions below overflow.
  seconds = std::clamp(std::isfinite(seconds) ? seconds : 0.0, 0.0, 1e10);
  std::array<char, 64> text{};
  const auto whole = static_cast<long>(seconds);
  if (whole < 1) {
    (void)std::snprintf(text.data(), text.size(), "%.3fs", seconds);
  } else if (whole < 60) {
    (void)std::snprintf(text.data(), text.size(), "%.1fs", std::floor(seconds * 10) / 10);
  } else if (whole < 3600) {
    (void)std::snprintf(text.data(), text.size(), "%ldm%02lds", whole / 60, whole % 60);
  } else if (whole < 86400) {
    (void)std::snprintf(text.data(), text.size(), "%ldh%02ldm", whole / 3600, whole / 60 % 60);
  } else {
    (void)std::snprintf(text.data(), text.size(), "%ldd%02ldh", whole / 86400, whole / 3600 % 24);
  }
  return text.data();
}

}  // namespace flockfs
