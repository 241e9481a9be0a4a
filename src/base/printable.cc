#include "base/printable.h"

#include <array>

namespace flockfs {
namespace {

bool is_continuation(char byte) { return (static_cast<unsigned char>(byte) & 0xC0U) == 0x80U; }

// The length and the bits of the code point that a lead byte announces.
Utf8 lead_of(unsigned char byte) {
  if (byte < 0x80U) return {1, byte};
  if (byte >= 0xC2U && byte <= 0xDFU) return {2, byte & 0x1FU};
  if (byte >= 0xE0U && byte <= 0xEFU) return {3, byte & 0x0FU};
  if (byte >= 0xF0U && byte <= 0xF4U) return {4, byte & 0x07U};
  return {};
}

void append_hex(std::string& out, char byte) {
  constexpr std::string_view kDigits = "0123456789ABCDEF";
  const auto value = static_cast<unsigned char>(byte);
  out.append("\\x").push_back(kDigits[value >> 4U]);
  out.push_back(kDigits[value & 0xFU]);
}

}  // namespace

Utf8 decode_utf8(std::string_view text) {
  Utf8 sequence = lead_of(static_cast<unsigned char>(text[0]));
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

bool is_printable(char32_t point) {
  if (point < 0x20 || (point >= 0x7F && point < 0xA0)) return false;
  return !(point >= 0x2028 && point <= 0x202E) && !(point >= 0x2066 && point <= 0x2069);
}

bool append_escaped(std::string& out, std::string_view value) {
  bool plain = !value.empty();
  while (!value.empty()) {
    const Utf8 sequence = decode_utf8(value);
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

std::string escaped(std::string_view value) {
  std::string result;
  (void)append_escaped(result, value);
  return result;
}

}  // namespace flockfs
