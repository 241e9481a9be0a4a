#include "cli/option_list.h"

#include <gmock/gmock.h>

namespace flockfs {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

ListedOption word(std::string name) { return {std::move(name), std::nullopt}; }
ListedOption pair(std::string name, std::string value) { return {std::move(name), std::move(value)}; }

TEST(OptionListTest, CommasSeparate) {
  EXPECT_THAT(split_option_list("ro,prefix=/a,nodev"), ElementsAre(word("ro"), pair("prefix", "/a"), word("nodev")));
}

TEST(OptionListTest, EmptyElementsAreLeftOut) {
  EXPECT_THAT(split_option_list(",ro,,rw,"), ElementsAre(word("ro"), word("rw")));
  EXPECT_THAT(split_option_list(""), IsEmpty());
}

TEST(OptionListTest, ElementWithoutNameIsKept) { EXPECT_THAT(split_option_list("=x"), ElementsAre(pair("", "x"))); }

TEST(OptionListTest, EmptyValueIsNotNoValue) {
  EXPECT_THAT(split_option_list("a=,b"), ElementsAre(pair("a", ""), word("b")));
}

TEST(OptionListTest, ValueMayContainEqualsSign) {
  EXPECT_THAT(split_option_list("prefix=/a=b"), ElementsAre(pair("prefix", "/a=b")));
}

TEST(OptionListTest, BackslashTakesCommaAndBackslashLiterally) {
  EXPECT_THAT(split_option_list(R"(prefix=/a\,b,exclude=/c\\,ro)"),
              ElementsAre(pair("prefix", "/a,b"), pair("exclude", "/c\\"), word("ro")));
}

TEST(OptionListTest, BackslashBeforeAnythingElseStandsForItself) {
  EXPECT_THAT(split_option_list(R"(prefix=/a\nb\)"), ElementsAre(pair("prefix", "/a\\nb\\")));
}

TEST(OptionListTest, QuoteIsACharacterUnlessItGroups) {
  EXPECT_THAT(split_option_list(R"(prefix="/a,b")"), ElementsAre(pair("prefix", "\"/a"), word("b\"")));
  EXPECT_THAT(split_option_list(R"(prefix="/a,b",ro)", Quotes::kGroup),
              ElementsAre(pair("prefix", "/a,b"), word("ro")));
}

TEST(OptionListTest, BlanksAndNewlinesStay) {
  EXPECT_THAT(split_option_list("prefix=/a b\nc"), ElementsAre(pair("prefix", "/a b\nc")));
}

TEST(OptionListTest, JoinIsTheInverseOfSplit) {
  const std::vector<ListedOption> options{pair("prefix", "/a,b\\,c\\"), word("ro"), pair("x", "\"q,r\""),
                                          pair("e", "")};
  EXPECT_EQ(split_option_list(join_option_list(options)), options);
}

}  // namespace
}  // namespace flockfs
