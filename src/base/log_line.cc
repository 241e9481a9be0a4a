#include <array>
#include <charconv>
#include <cstddef>

#include "base/log.h"

namespace flockfs {
namespace {

bool is_continuation(char byte) { return (static_cast<unsigned char>(byte) & 0xC0U) == 0x80U; }

struct Sequence {
  std::size_t length = 0;  // 0: not UTF-8
  char32_t code_point = 0;
};

// The length and the bits of the code point that a lead byte announces.
Sequence lead_of(unsigned char byte) {
  if (byte < 0x80U) return {1, byte};
  if (byte >= 0xC2U && byte <= 0xDFU) return {2, byte & 0x1FU};
  if (byte >= 0xE0U && byte <= 0xEFU) return {3, byte & 0x0FU};
  if (byte >= 0xF0U && byte <= 0xF4U) return {4, byte & 0x07U};
  return {};
}

// The UTF-8 sequence at the start of `text`; overlong forms, surrogates and what is beyond U+10FFFF are not UTF-8.
Sequence decode(std::string_view text) {
  Sequence sequence = lead_of(static_cast<unsigned char>(text[0]));
  if (sequence.length > text.size()) return {};
  for (std::size_t i = 1; i < sequence.length; ++i) {
    if (!is_continuation(text[i])) return {};
    sequence.code_point = (sequence.code_point << 6U) | (static_cast<unsigned char>(text[i]) & 0x3FU);
  }
  constexpr std::array<char32_t, 5> kSmallest{0, 0, 0x80, 0x800, 0x10000};
  const char32_t point = sequence.code_point;
  if (point < kSmallest.at(sequence.length) || point > 0x10FFFF || (point >= 0xD800 && point <= 0xDFFF)) return {};
  return sequence;
}

// Not for a log: controls (C0, DEL, C1), line separators, and what reverses the direction of the text after it, by
// which a file's name could make a line read as another.
bool is_printable(char32_t point) {
  if (point < 0x20 || (point >= 0x7F && point < 0xA0)) return false;
  return !(point >= 0x2028 && point <= 0x202E) && !(point >= 0x2066 && point <= 0x2069);
}

void append_hex(std::string& out, char byte) {
  constexpr std::string_view kDigits = "0123456789ABCDEF";
  const auto value = static_cast<unsigned char>(byte);
  out.append("\\x").push_back(kDigits[value >> 4U]);
  out.push_back(kDigits[value & 0xFU]);
}

// Appends `value` escaped; returns whether it can stand without quotes.
bool append_escaped(std::string& out, std::string_view value) {
  bool plain = !value.empty();
  while (!value.empty()) {
    const Sequence sequence = decode(value);
    const char first = value[0];
    std::size_t taken = 1;
    if (first == '"' || first == '\\') {
      out.append({'\\', first});
      plain = false;
    } else if (first == '\n') {
      out.append("\\n");
      plain = false;
    } else if (sequence.length == 0 || !is_printable(sequence.code_point)) {
      taken = sequence.length == 0 ? 1 : sequence.length;
      for (const char byte : value.substr(0, taken)) append_hex(out, byte);
      plain = false;
    } else {
      taken = sequence.length;
      out.append(value.substr(0, taken));
      plain = plain && first != ' ' && first != '=';
    }
    value.remove_prefix(taken);
  }
  return plain;
}

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

std::string escaped(std::string_view text) {
  std::string result;
  (void)append_escaped(result, text);
  return result;
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
