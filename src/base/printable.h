#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace flockfs {

// Names are bytes, whoever made them: what may go to a log or to a terminal as it is, and how the rest is shown.

struct Utf8 {
  std::size_t length = 0;  // 0: not UTF-8
  char32_t code_point = 0;
};

// The UTF-8 sequence at the start of `text`; overlong forms, surrogates and what is beyond U+10FFFF are not UTF-8.
// REQUIRES: not empty.
[[nodiscard]] Utf8 decode_utf8(std::string_view text);

// Not so: controls (C0, DEL, C1), line separators, and what reverses the direction of the text after it, by which a
// file's name could make a line read as another.
[[nodiscard]] bool is_printable(char32_t point);

// Appends `value` with a newline, a quote, a backslash or a byte that is not printable UTF-8 as \n, \", \\ or \xHH;
// returns whether it can stand without quotes.
bool append_escaped(std::string& out, std::string_view value);

// The same alone; nothing in it can act on a terminal.
[[nodiscard]] std::string escaped(std::string_view value);

}  // namespace flockfs
