#include <gmock/gmock.h>
#include <sys/mount.h>

#include "cli/command_line.h"

namespace flockfs {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

constexpr uid_t kRoot = 0;
constexpr uid_t kUser = 1000;
using Arguments = std::vector<std::string>;

CommandLine parse(Arguments options, uid_t user = kRoot) {
  options.insert(options.end(), {"/a", "/b", "--", "tar", "--create", "--"});
  auto parsed = parse_run_command_line(options, user);
  EXPECT_TRUE(parsed.ok()) << parsed.error().message();
  return parsed.ok() ? *parsed : CommandLine{};
}

std::string complaint(const Arguments& arguments) {
  const auto parsed = parse_run_command_line(arguments, kRoot);
  EXPECT_FALSE(parsed.ok());
  return parsed.ok() ? "" : parsed.error().message();
}

TEST(RunCommandLineTest, OperandsAreSourcesAndTheCommand) {
  const CommandLine command = parse({"-q"});
  EXPECT_THAT(command.sources, ElementsAre("/a", "/b"));
  EXPECT_THAT(command.command, ElementsAre("tar", "--create", "--"));
  EXPECT_TRUE(command.quiet);
}

TEST(RunCommandLineTest, DefaultsAreForBackups) {
  const CommandLine command = parse({});
  EXPECT_TRUE(command.mirror.read_only);
  EXPECT_EQ(command.mirror.mount_flags, MS_NOSUID | MS_NODEV | MS_RDONLY);
  EXPECT_EQ(command.mirror.attr_timeout.count(), 3600);
  EXPECT_EQ(command.mirror.entry_timeout.count(), 3600);
  EXPECT_FALSE(command.quiet);
  EXPECT_FALSE(command.fail_if_unlocked);
  EXPECT_EQ(command.log.target, LogTarget::kSyslog);
  EXPECT_TRUE(command.mirror.allow_other);
  EXPECT_FALSE(parse({}, kUser).mirror.allow_other);
}

TEST(RunCommandLineTest, WhoWritesSeesWhatOthersWriteSoon) {
  const MirrorConfig mirror = parse({"--rw"}).mirror;
  EXPECT_FALSE(mirror.read_only);
  EXPECT_EQ(mirror.attr_timeout.count(), 1);
  EXPECT_EQ(mirror.entry_timeout.count(), 1);
}

TEST(RunCommandLineTest, TimeoutsThatAreGivenHold) {
  EXPECT_EQ(parse({"--attr-timeout=5"}).mirror.attr_timeout.count(), 5);
  EXPECT_EQ(parse({"-o", "rw,entry_timeout=9"}).mirror.entry_timeout.count(), 9);
}

TEST(RunCommandLineTest, ItsOwnOptionsAreItsOwn) {
  EXPECT_TRUE(parse({"-o", "fail_if_unlocked"}).fail_if_unlocked);
  EXPECT_THAT(complaint({"--foreground", "/a", "--", "x"}), HasSubstr("flockfs-run does not have it"));
  EXPECT_THAT(complaint({"-o", "stop_timeout=1s", "/a", "--", "x"}), HasSubstr("flockfs-run does not have it"));
  const auto flockfs = parse_command_line({"--quiet", "/a", "/b"}, kRoot);
  ASSERT_FALSE(flockfs.ok());
  EXPECT_THAT(flockfs.error().message(), HasSubstr("flockfs does not have it"));
}

TEST(RunCommandLineTest, WhatIsMissingIsNamed) {
  EXPECT_THAT(complaint({"/a", "tar"}), HasSubstr("'--' and COMMAND are missing"));
  EXPECT_THAT(complaint({"/a", "tar", "--create"}), HasSubstr("'--' before COMMAND is missing"));
  EXPECT_THAT(complaint({"/a", "--"}), HasSubstr("COMMAND is missing"));
  EXPECT_THAT(complaint({"--", "tar"}), HasSubstr("SOURCE is missing"));
}

TEST(RunCommandLineTest, HelpNeedsNothingElse) {
  const auto parsed = parse_run_command_line({"--help"}, kUser);
  ASSERT_TRUE(parsed.ok());
  EXPECT_EQ(parsed->request, CommandLine::Request::kHelp);
}

TEST(RunCommandLineTest, DebugGoesToStderr) {
  const CommandLine command = parse({"-d"});
  EXPECT_EQ(command.log.target, LogTarget::kStderr);
  EXPECT_EQ(command.log.level, LogLevel::kDebug);
}

}  // namespace
}  // namespace flockfs
