#include "cli/option_table.h"

#include <gmock/gmock.h>

#include <set>
#include <sstream>

#include "cli/help.h"
#include "cli/mount_words.h"

namespace flockfs {
namespace {

using testing::EndsWith;
using testing::HasSubstr;
using testing::Not;

TEST(OptionTableTest, NamesAreUniqueAndUnderscored) {
  std::set<std::string> seen;
  for (const OptionSpec& option : option_table()) {
    EXPECT_TRUE(seen.insert(option.display_name()).second) << option.display_name();
    EXPECT_EQ(option.name.find('-'), std::string_view::npos) << option.name;
    EXPECT_EQ(find_mount_word(option.name), nullptr) << option.name;
  }
}

TEST(OptionTableTest, LettersAreUnique) {
  std::set<char> seen;
  for (const OptionSpec& option : option_table()) {
    if (option.letter != '\0') {
      EXPECT_TRUE(seen.insert(option.letter).second) << option.letter;
    }
  }
}

TEST(OptionTableTest, EveryOptionCanBeAppliedAndFound) {
  for (const OptionSpec& option : option_table()) {
    EXPECT_NE(option.apply, nullptr) << option.display_name();
    for (const Program program : {Program::kFlockfs, Program::kRun}) {
      const OptionSpec* const found = option.is_for(program) ? &option : nullptr;
      if (!option.name.empty()) {
        EXPECT_EQ(find_option(option.name, program), found) << option.name;
      }
      if (option.letter != '\0') {
        EXPECT_EQ(find_option(option.letter, program), found) << option.letter;
      }
    }
  }
}

TEST(OptionTableTest, OptionWithoutNameIsNotFoundByEmptyName) { EXPECT_EQ(find_option(""), nullptr); }

TEST(OptionTableTest, ListKnowsOptionsAndMountWordsOnly) {
  EXPECT_TRUE(is_listed_option_known("stop-timeout"));
  EXPECT_TRUE(is_listed_option_known("nodev"));
  EXPECT_TRUE(is_listed_option_known("x-anything"));
  EXPECT_TRUE(is_listed_option_known("auto_unmount"));  // refused, not ignored
  EXPECT_FALSE(is_listed_option_known("help"));
  EXPECT_FALSE(is_listed_option_known("uid"));
  EXPECT_FALSE(is_listed_option_known("quiet"));  // of flockfs-run
}

class HelpTest : public testing::TestWithParam<Program> {
 protected:
  const std::string help = help_text(GetParam());
};
INSTANTIATE_TEST_SUITE_P(Programs, HelpTest, testing::Values(Program::kFlockfs, Program::kRun),
                         [](const auto& program) { return program.param == Program::kRun ? "Run" : "Flockfs"; });

TEST_P(HelpTest, LinesFitEightyColumns) {
  std::istringstream lines(help);
  for (std::string line; std::getline(lines, line);) {
    EXPECT_LE(line.size(), 80U) << line;
    EXPECT_THAT(line, Not(EndsWith(" ")));
    EXPECT_THAT(line, Not(EndsWith(".")));
  }
}

TEST_P(HelpTest, EveryOptionIsThereWithItsDefault) {
  for (const OptionSpec& option : option_table()) {
    if (!option.is_for(GetParam())) continue;
    if (option.letter != '\0') {
      EXPECT_THAT(help, HasSubstr("\n -" + std::string(1, option.letter)));
    }
    std::string dashed = "--" + std::string(option.name);
    for (char& c : dashed) c = c == '_' ? '-' : c;
    if (!option.name.empty()) {
      EXPECT_THAT(help, HasSubstr(dashed + (option.takes_value() ? " " + std::string(option.argument) : "")));
    }
  }
  EXPECT_THAT(help, HasSubstr("[60s]"));
}

TEST(RunHelpTest, DefaultsAreItsOwn) {
  const std::string help = help_text(Program::kRun);
  EXPECT_THAT(help, HasSubstr("read-only [on]"));
  EXPECT_THAT(help, HasSubstr("[3600, with rw 1]"));
  EXPECT_THAT(help, Not(HasSubstr("--foreground")));
  EXPECT_THAT(help_text(), Not(HasSubstr("--quiet")));
}

TEST_P(HelpTest, HelpAndVersionComeLast) {
  const std::size_t help_at = help.find(" -h, --help");
  const std::size_t version_at = help.find(" -V, --version");
  ASSERT_NE(help_at, std::string::npos);
  EXPECT_LT(help_at, version_at);
  EXPECT_EQ(help.find("\n -", version_at), std::string::npos);
}

}  // namespace
}  // namespace flockfs
