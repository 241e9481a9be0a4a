#include <gtest/gtest.h>

#include "base/log.h"

namespace flockfs {
namespace {

std::string text_of(std::string_view value) { return LogLine("e").text("k", value).str().substr(sizeof("event=e")); }

TEST(LogLineTest, LineIsLogfmt) {
  LogLine line("lock");
  line.quoted("path", "/a b").text("mode", "shared").ms("wait_ms", 0.0214).number("pid", 123).text("comm", "tar");
  EXPECT_EQ(line.str(), R"(event=lock path="/a b" mode=shared wait_ms=0.021 pid=123 comm=tar)");
}

TEST(LogLineTest, PlainTextNeedsNoQuotes) { EXPECT_EQ(text_of("a/b:c-d_e.f,g'h"), "k=a/b:c-d_e.f,g'h"); }

TEST(LogLineTest, EmptyTextIsQuoted) { EXPECT_EQ(text_of(""), R"(k="")"); }

TEST(LogLineTest, BlankAndEqualsSignAreQuoted) {
  EXPECT_EQ(text_of("a b"), R"(k="a b")");
  EXPECT_EQ(text_of("a=b"), R"(k="a=b")");
}

TEST(LogLineTest, QuoteAndBackslashAreEscaped) {
  EXPECT_EQ(text_of("a\"b"), R"(k="a\"b")");
  EXPECT_EQ(text_of("a\\b"), R"(k="a\\b")");
}

TEST(LogLineTest, NewlineCannotForgeALine) { EXPECT_EQ(text_of("a\nevent=x"), R"(k="a\nevent=x")"); }

TEST(LogLineTest, ControlCharactersBecomeHex) {
  EXPECT_EQ(text_of(std::string_view("\x00\x1B[m\t\x7F", 6)), R"(k="\x00\x1B[m\x09\x7F")");
  EXPECT_EQ(text_of("\xC2\x85"), R"(k="\xC2\x85")");  // U+0085, a C1 control
}

TEST(LogLineTest, TextThatReversesDirectionBecomesHex) { EXPECT_EQ(text_of("\xE2\x80\xAE"), R"(k="\xE2\x80\xAE")"); }

TEST(LogLineTest, ValidUtf8Stays) {
  EXPECT_EQ(text_of("Ma\xC3\x9F\xE2\x82\xAC\xF0\x9F\x98\x80"), "k=Ma\xC3\x9F\xE2\x82\xAC\xF0\x9F\x98\x80");
}

TEST(LogLineTest, InvalidUtf8BecomesHex) {
  EXPECT_EQ(text_of("a\xFF"), R"(k="a\xFF")");
  EXPECT_EQ(text_of("\x80x"), R"(k="\x80x")");                        // a continuation alone
  EXPECT_EQ(text_of("\xC3"), R"(k="\xC3")");                          // cut off
  EXPECT_EQ(text_of("\xC3(x"), R"(k="\xC3(x")");                      // the next character survives
  EXPECT_EQ(text_of("\xC0\xAF"), R"(k="\xC0\xAF")");                  // overlong
  EXPECT_EQ(text_of("\xE0\x80\xAF"), R"(k="\xE0\x80\xAF")");          // overlong
  EXPECT_EQ(text_of("\xED\xA0\x80"), R"(k="\xED\xA0\x80")");          // surrogate
  EXPECT_EQ(text_of("\xF4\x90\x80\x80"), R"(k="\xF4\x90\x80\x80")");  // beyond U+10FFFF
}

TEST(LogLineTest, QuotedQuotesAlways) { EXPECT_EQ(LogLine("e").quoted("path", "/a").str(), R"(event=e path="/a")"); }

TEST(LogLineTest, NumbersKeepTheirSign) { EXPECT_EQ(LogLine("e").number("n", -5).str(), "event=e n=-5"); }

TEST(LogLineTest, MillisecondsHaveThreeDecimals) {
  EXPECT_EQ(LogLine("e").ms("t", 0).str(), "event=e t=0.000");
  EXPECT_EQ(LogLine("e").ms("t", 1234567.8914).str(), "event=e t=1234567.891");
  EXPECT_EQ(LogLine("e").ms("t", 1e300).str().size(), std::string("event=e t=").size() + 301 + 4);
}

}  // namespace
}  // namespace flockfs
