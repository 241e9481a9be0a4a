#include "base/duration.h"

#include <gmock/gmock.h>

namespace flockfs {
namespace {

using std::chrono::milliseconds;
using testing::HasSubstr;

TEST(DurationTest, BareNumberIsMilliseconds) { EXPECT_EQ(parse_duration("250").value(), milliseconds(250)); }

TEST(DurationTest, ZeroIsATime) { EXPECT_EQ(parse_duration("0").value(), milliseconds(0)); }

TEST(DurationTest, UnitsAreSecondsAndMinutes) {
  EXPECT_EQ(parse_duration("3s").value(), milliseconds(3000));
  EXPECT_EQ(parse_duration("2min").value(), milliseconds(120'000));
}

TEST(DurationTest, MinusOneIsForeverOnlyWhereAllowed) {
  EXPECT_EQ(parse_duration("-1", Forever::kAllowed).value(), kForever);
  EXPECT_FALSE(parse_duration("-1").ok());
}

TEST(DurationTest, ErrorNamesTextAndForms) {
  EXPECT_EQ(parse_duration("5h").error().message(), "'5h' is not a time (N milliseconds, Ns or Nmin)");
  EXPECT_THAT(parse_duration("x", Forever::kAllowed).error().message(), HasSubstr("or -1"));
}

TEST(DurationTest, WhatIsNoWholeNumberWithItsUnitIsRefused) {
  for (const char* text : {"", " 1", "1 ", "1 s", "+1", "-2", "-1s", "1.5s", "0x10", "s", "min", "1m", "1S", "1s1s"}) {
    EXPECT_FALSE(parse_duration(text).ok()) << "'" << text << "'";
  }
}

TEST(DurationTest, BoundIsAYear) {
  EXPECT_EQ(parse_duration("31536000s").value(), kMaxDuration);
  for (const char* text :
       {"31536001s", "525601min", "31536000001", "99999999999999999999999", "99999999999999999999s"}) {
    ASSERT_FALSE(parse_duration(text).ok()) << text;
    EXPECT_THAT(parse_duration(text).error().message(), HasSubstr("longer than a year")) << text;
  }
}

TEST(DurationTest, OverflowingNumberWithUnknownUnitIsNoTime) {
  EXPECT_THAT(parse_duration("99999999999999999999h").error().message(), HasSubstr("not a time"));
}

TEST(SecondsTest, FractionsAreTaken) {
  EXPECT_DOUBLE_EQ(parse_seconds("0.25").value().count(), 0.25);
  EXPECT_DOUBLE_EQ(parse_seconds("0").value().count(), 0);
  EXPECT_DOUBLE_EQ(parse_seconds("10").value().count(), 10);
}

TEST(SecondsTest, WhatIsNoNumberOfSecondsIsRefused) {
  for (const char* text : {"", "x", "1s", "-1", "-0", "+1", "inf", "nan", "1e3", " 1", "1,5", "0x1"}) {
    ASSERT_FALSE(parse_seconds(text).ok()) << "'" << text << "'";
    EXPECT_EQ(parse_seconds(text).error().message(), "'" + std::string(text) + "' is not a number of seconds");
  }
}

TEST(SecondsTest, BoundIsAYear) {
  EXPECT_TRUE(parse_seconds("31536000").ok());
  EXPECT_FALSE(parse_seconds("31536001").ok());
  EXPECT_FALSE(parse_seconds(std::string(400, '9')).ok());
}

}  // namespace
}  // namespace flockfs
