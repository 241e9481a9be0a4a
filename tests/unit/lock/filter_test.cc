#include "lock/filter.h"

#include <gtest/gtest.h>

namespace flockfs {
namespace {

using Paths = std::vector<std::string>;

PassReason reason(const Filter& filter, std::string_view path) {
  const FilterDecision decision = filter.decide(path);
  EXPECT_EQ(decision.selected, decision.reason == PassReason::kNone);
  return decision.reason;
}

TEST(FilterTest, WithoutRulesEverythingIsSelected) {
  const Filter filter("/src", {}, {});
  EXPECT_TRUE(filter.selects_everything());
  EXPECT_EQ(reason(filter, "/src"), PassReason::kNone);
  EXPECT_EQ(reason(filter, "/src/a"), PassReason::kNone);
}

TEST(FilterTest, PrefixMatchesWholeComponents) {
  const Filter filter("/a", {"/a/b"}, {});
  EXPECT_FALSE(filter.selects_everything());
  EXPECT_EQ(reason(filter, "/a/b"), PassReason::kNone);
  EXPECT_EQ(reason(filter, "/a/b/c"), PassReason::kNone);
  EXPECT_EQ(reason(filter, "/a/bc"), PassReason::kPrefix);
  EXPECT_EQ(reason(filter, "/a"), PassReason::kPrefix);
}

TEST(FilterTest, ExcludeMatchesWholeComponents) {
  const Filter filter("/a", {}, {"/a/b"});
  EXPECT_FALSE(filter.selects_everything());
  EXPECT_EQ(reason(filter, "/a/b"), PassReason::kExclude);
  EXPECT_EQ(reason(filter, "/a/b/c/d"), PassReason::kExclude);
  EXPECT_EQ(reason(filter, "/a/bc"), PassReason::kNone);
}

TEST(FilterTest, LongestMatchDecides) {
  const Filter filter("/", {"/a", "/a/b/c"}, {"/a/b", "/a/b/c/d"});
  EXPECT_EQ(reason(filter, "/a/x"), PassReason::kNone);
  EXPECT_EQ(reason(filter, "/a/b/x"), PassReason::kExclude);
  EXPECT_EQ(reason(filter, "/a/b/c/x"), PassReason::kNone);
  EXPECT_EQ(reason(filter, "/a/b/c/d/x"), PassReason::kExclude);
  EXPECT_EQ(reason(filter, "/b"), PassReason::kPrefix);
}

TEST(FilterTest, ExcludeWinsOverTheSamePrefix) {
  const Filter filter("/", {"/a"}, {"/a"});
  EXPECT_EQ(reason(filter, "/a/x"), PassReason::kExclude);
}

TEST(FilterTest, TrailingSlashesDoNotCount) {
  const Filter filter("/src/", {"/src/a//"}, {"/src/a/b/"});
  EXPECT_EQ(reason(filter, "/src/a"), PassReason::kNone);
  EXPECT_EQ(reason(filter, "/src/a/"), PassReason::kNone);
  EXPECT_EQ(reason(filter, "/src/a/b"), PassReason::kExclude);
}

TEST(FilterTest, RelativeRuleIsBelowTheSource) {
  const Filter filter("/src", {"a"}, {"a/b"});
  EXPECT_EQ(reason(filter, "/src/a/x"), PassReason::kNone);
  EXPECT_EQ(reason(filter, "/src/a/b"), PassReason::kExclude);
  EXPECT_EQ(reason(filter, "/a"), PassReason::kPrefix);
  const Filter below_root("/", {"a"}, {});
  EXPECT_EQ(reason(below_root, "/a/x"), PassReason::kNone);
}

TEST(FilterTest, RootMatchesEverything) {
  const Filter prefix("/src", {"/"}, {});
  EXPECT_TRUE(prefix.selects_everything());
  EXPECT_EQ(reason(prefix, "/"), PassReason::kNone);
  EXPECT_EQ(reason(prefix, "/x"), PassReason::kNone);
  const Filter exclude("/src", {}, {"/"});
  EXPECT_FALSE(exclude.selects_everything());
  EXPECT_EQ(reason(exclude, "/src/x"), PassReason::kExclude);
}

TEST(FilterTest, RulesThatLeaveTheWholeSourceSelectedAreTheFastPath) {
  EXPECT_TRUE(Filter("/src", {"/src"}, {}).selects_everything());
  EXPECT_TRUE(Filter("/src", {"/src/"}, {}).selects_everything());
  EXPECT_TRUE(Filter("/a/src", {"/a"}, {}).selects_everything());
  EXPECT_TRUE(Filter("/src", {}, {"/elsewhere"}).selects_everything());
  EXPECT_TRUE(Filter("/a/src", {"/a/src"}, {"/a"}).selects_everything());
  EXPECT_FALSE(Filter("/a/src", {"/a"}, {"/a/src"}).selects_everything());
  EXPECT_FALSE(Filter("/src", {"/src/a"}, {}).selects_everything());
}

TEST(FilterTest, NamesAreBytes) {
  const Filter filter("/src", {}, {"/src/a b,\n\xff"});
  EXPECT_EQ(reason(filter, "/src/a b,\n\xff/x"), PassReason::kExclude);
  EXPECT_EQ(reason(filter, "/src/a b,\n"), PassReason::kNone);
}

}  // namespace
}  // namespace flockfs
