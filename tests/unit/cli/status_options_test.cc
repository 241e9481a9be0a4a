#include "cli/status_options.h"

#include <gtest/gtest.h>

#include <sstream>

namespace flockfs::test {
namespace {

using Request = StatusCommand::Request;

StatusCommand parse(const std::vector<std::string>& arguments) {
  const auto command = parse_status_command_line(arguments);
  EXPECT_TRUE(command.ok()) << (command.ok() ? "" : command.error().message());
  return command.ok() ? *command : StatusCommand{};
}

std::string error_of(const std::vector<std::string>& arguments) {
  const auto command = parse_status_command_line(arguments);
  return command.ok() ? "no error" : command.error().message();
}

TEST(StatusOptionsTest, OptionsMayStandAnywhere) {
  for (const auto& arguments : std::vector<std::vector<std::string>>{
           {"--json", "--watch", "/m"}, {"/m", "--watch", "--json"}, {"--json", "--watch", "--", "/m"}}) {
    const StatusCommand command = parse(arguments);
    EXPECT_TRUE(command.json);
    EXPECT_TRUE(command.watch);
    EXPECT_EQ(command.target, "/m");
  }
  EXPECT_FALSE(parse({"/m"}).json);
  EXPECT_FALSE(parse({"/m"}).watch);
  EXPECT_EQ(parse({"--", "--json"}).target, "--json");
  EXPECT_EQ(parse({"-"}).target, "-");
}

TEST(StatusOptionsTest, HelpAndVersionNeedNoOperand) {
  EXPECT_EQ(parse({"-h"}).request, Request::kHelp);
  EXPECT_EQ(parse({"--help"}).request, Request::kHelp);
  EXPECT_EQ(parse({"-V"}).request, Request::kVersion);
  EXPECT_EQ(parse({"--version"}).request, Request::kVersion);
}

TEST(StatusOptionsTest, ErrorsNameWhatIsWrong) {
  EXPECT_EQ(error_of({}), "MOUNTPOINT is missing");
  EXPECT_EQ(error_of({""}), "MOUNTPOINT is missing");
  EXPECT_EQ(error_of({"/a", "/b"}), "one operand too many: '/b'");
  EXPECT_EQ(error_of({"--jsn", "/a"}), "unknown option '--jsn'");
  EXPECT_EQ(error_of({"--", "a", "--json"}), "one operand too many: '--json'");
  EXPECT_EQ(error_of({"--json=yes", "/a"}), "option 'json' takes no value");
  EXPECT_EQ(error_of({"-x", "/a"}), "unknown option '-x'");
  EXPECT_EQ(error_of({"-hx"}), "unknown option '-x'");
}

TEST(StatusOptionsTest, HelpFitsAndNamesEveryOption) {
  const std::string help = status_help_text();
  std::istringstream lines(help);
  for (std::string line; std::getline(lines, line);) EXPECT_LE(line.size(), 80U) << line;
  for (const StatusOption& option : status_option_table()) {
    EXPECT_NE(help.find("--" + std::string(option.name) + " "), std::string::npos) << option.name;
  }
}

}  // namespace
}  // namespace flockfs::test
