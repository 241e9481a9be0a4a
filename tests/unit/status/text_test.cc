// Names are bytes: what is shown of them cannot do anything to a terminal, nor be wider than it looks.

#include "status/text.h"

#include <gtest/gtest.h>

#include <limits>

namespace flockfs::test {
namespace {

TEST(TextTest, ControlCharactersAreEscaped) {
  EXPECT_EQ(printable("a\033[2Jb\tc\nd", Charset::kUtf8), "a\\x1B[2Jb\\x09c\\nd");
  EXPECT_EQ(printable("\x7F\xC2\x9B\xE2\x80\xAE", Charset::kUtf8), "\\x7F\\xC2\\x9B\\xE2\\x80\\xAE");
  EXPECT_EQ(printable("back\\slash", Charset::kUtf8), "back\\\\slash");
  EXPECT_EQ(printable("say \"a b\"", Charset::kUtf8), "say \"a b\"");
}

TEST(TextTest, BytesThatAreNoUtf8AreEscaped) {
  EXPECT_EQ(printable("caf\xE9", Charset::kUtf8), "caf\\xE9");
  EXPECT_EQ(printable("\xC0\xAF\xED\xA0\x80", Charset::kUtf8), "\\xC0\\xAF\\xED\\xA0\\x80");
}

TEST(TextTest, WithoutUtf8OnlyAsciiIsShown) {
  EXPECT_EQ(printable("caf\u00e9", Charset::kUtf8), "caf\u00e9");
  EXPECT_EQ(printable("caf\u00e9", Charset::kAscii), "caf\\xC3\\xA9");
}

TEST(TextTest, WidthIsThatOfTheTerminal) {
  EXPECT_EQ(width_of("abc"), 3U);
  EXPECT_EQ(width_of("\u00e9\u00e9"), 2U);
  EXPECT_EQ(width_of("\u65e5\u672c"), 4U);
  EXPECT_EQ(width_of("e\u0301"), 1U);
}

TEST(TextTest, LongTextLosesItsMiddle) {
  EXPECT_EQ(shortened("/a/b", 4), "/a/b");
  EXPECT_EQ(shortened("/srv/data/whisper/servers/load.wsp", 20), "/srv/dat.../load.wsp");
  EXPECT_EQ(shortened("/srv/data", 3), "...");
  EXPECT_EQ(shortened("/srv/data", 0), "");
  EXPECT_EQ(width_of(shortened(std::string(1000, 'x'), 17)), 17U);
}

TEST(TextTest, NoCharacterIsCutInTwo) {
  const std::string wide = "\u65e5\u672c\u8a9e\u65e5\u672c\u8a9e\u65e5\u672c\u8a9e";
  for (std::size_t width = 0; width <= 18; ++width) {
    const std::string result = shortened(wide, width);
    EXPECT_LE(width_of(result), width);
    EXPECT_EQ(printable(result, Charset::kUtf8), result) << width;
  }
}

TEST(TextTest, ColumnsAreFilled) {
  EXPECT_EQ(left_aligned("ab", 4), "ab  ");
  EXPECT_EQ(right_aligned("ab", 4), "  ab");
  EXPECT_EQ(left_aligned("\u65e5", 4), "\u65e5  ");
  EXPECT_EQ(left_aligned("abcde", 4), "abcde");
}

TEST(TextTest, Times) {
  EXPECT_EQ(time_text(0.0341), "0.034s");
  EXPECT_EQ(time_text(12.57), "12.5s");
  EXPECT_EQ(time_text(59.99), "59.9s");
  EXPECT_EQ(time_text(245), "4m05s");
  EXPECT_EQ(time_text(3 * 3600 + 7 * 60 + 59), "3h07m");
  EXPECT_EQ(time_text(86400 * 12 + 4 * 3600), "12d04h");
  EXPECT_EQ(time_text(-5), "0.000s");
  EXPECT_EQ(time_text(std::numeric_limits<double>::infinity()), "0.000s");
}

}  // namespace
}  // namespace flockfs::test
