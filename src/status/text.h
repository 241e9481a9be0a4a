#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace flockfs {

// What a terminal can show.
enum class Charset { kAscii, kUtf8 };

// Text for the cells of a terminal. No control character is left in it: what is not printable, and a backslash, is
// written as in the log (\n, \xHH, \\), and so is all that is not ASCII where the terminal has no more.
[[nodiscard]] std::string printable(std::string_view text, Charset charset);

// Columns that printable() text takes: wide characters two, combining ones none.
[[nodiscard]] std::size_t width_of(std::string_view text);

// printable() text in at most `width` columns; what is too long has "..." in its middle, no character cut in two.
[[nodiscard]] std::string shortened(const std::string& text, std::size_t width);

// Blanks added, on the right or on the left.
[[nodiscard]] std::string left_aligned(std::string text, std::size_t width);
[[nodiscard]] std::string right_aligned(const std::string& text, std::size_t width);

// "0.034s", "12.5s", "4m05s", "3h07m", "12d04h".
[[nodiscard]] std::string time_text(double seconds);

}  // namespace flockfs
