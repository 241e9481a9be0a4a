#include "cli/command_line.h"

#include <gmock/gmock.h>
#include <sys/mount.h>

#include <chrono>

#include "cli/option_table.h"

namespace flockfs {
namespace {

using std::chrono::milliseconds;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

constexpr uid_t kRoot = 0;
constexpr uid_t kUser = 1000;
using Arguments = std::vector<std::string>;

// Parses `arguments` and the two operands; fails the test if that is an error.
CommandLine parse(Arguments arguments, uid_t user = kRoot) {
  arguments.insert(arguments.end(), {"--", "/src", "/mnt"});
  auto parsed = parse_command_line(arguments, user);
  EXPECT_TRUE(parsed.ok()) << parsed.error().message();
  return parsed.ok() ? *parsed : CommandLine{};
}

CommandLine parse_list(const std::string& list, uid_t user = kRoot) { return parse({"-o", list}, user); }

// The message about `arguments` and two operands.
std::string complaint(Arguments arguments, uid_t user = kRoot) {
  arguments.insert(arguments.end(), {"--", "/src", "/mnt"});
  const auto parsed = parse_command_line(arguments, user);
  EXPECT_FALSE(parsed.ok());
  return parsed.ok() ? "" : parsed.error().message();
}

std::string complaint_of_list(const std::string& list, uid_t user = kRoot) { return complaint({"-o", list}, user); }

std::string complaint_of_operands(const Arguments& arguments) {
  const auto parsed = parse_command_line(arguments, kRoot);
  EXPECT_FALSE(parsed.ok());
  return parsed.ok() ? "" : parsed.error().message();
}

TEST(CommandLineTest, DefaultsAreTheContracts) {
  const CommandLine command = parse({});
  const MirrorConfig& mirror = command.mirror;
  EXPECT_EQ(mirror.source, "/src");
  EXPECT_EQ(mirror.mountpoint, "/mnt");
  EXPECT_THAT(mirror.prefixes, IsEmpty());
  EXPECT_THAT(mirror.excludes, IsEmpty());
  EXPECT_FALSE(mirror.read_only);
  EXPECT_FALSE(mirror.noatime);
  EXPECT_TRUE(mirror.passthrough);
  EXPECT_EQ(mirror.attr_timeout.count(), 1.0);
  EXPECT_EQ(mirror.entry_timeout.count(), 1.0);
  EXPECT_FALSE(mirror.threads.has_value());
  EXPECT_EQ(mirror.lock, LockKind::kFlock);
  EXPECT_EQ(mirror.reopen, Reopen::kJoin);
  EXPECT_FALSE(mirror.timeout.has_value());
  EXPECT_EQ(mirror.on_timeout, Otherwise::kFail);
  EXPECT_EQ(mirror.on_unsupported, Otherwise::kFail);
  EXPECT_FALSE(mirror.try_nonblocking);
  EXPECT_EQ(mirror.hold_warn, milliseconds(60'000));
  EXPECT_EQ(mirror.stop_timeout, milliseconds(10'000));
  EXPECT_EQ(mirror.mount_flags, MS_NOSUID | MS_NODEV);
  EXPECT_FALSE(command.foreground);
  EXPECT_EQ(command.log.target, LogTarget::kSyslog);
  EXPECT_EQ(command.log.level, LogLevel::kInfo);
}

TEST(CommandLineTest, LongOptionsTakeBothSpellings) {
  EXPECT_EQ(parse({"--stop-timeout", "3s"}).mirror.stop_timeout, milliseconds(3000));
  EXPECT_EQ(parse({"--stop_timeout", "3s"}).mirror.stop_timeout, milliseconds(3000));
  EXPECT_EQ(parse({"--stop-timeout=3s"}).mirror.stop_timeout, milliseconds(3000));
  EXPECT_EQ(parse({"--stop_timeout=3s"}).mirror.stop_timeout, milliseconds(3000));
}

TEST(CommandLineTest, ListTakesBothSpellings) {
  EXPECT_EQ(parse_list("stop-timeout=3s").mirror.stop_timeout, milliseconds(3000));
  EXPECT_EQ(parse_list("stop_timeout=3s").mirror.stop_timeout, milliseconds(3000));
  EXPECT_FALSE(parse_list("no-allow-other").mirror.allow_other);
}

TEST(CommandLineTest, ValuesKeepTheirUnderscoresAndDashes) {
  EXPECT_THAT(parse({"--prefix=a_b-c", "--prefix", "--d_e", "-oprefix=f_g-h"}).mirror.prefixes,
              ElementsAre("a_b-c", "--d_e", "f_g-h"));
}

TEST(CommandLineTest, CommaInValueIsEscapedByBackslash) {
  EXPECT_THAT(parse_list(R"(prefix=/a\,b,exclude=/c\\d,ro)").mirror.prefixes, ElementsAre("/a,b"));
  EXPECT_THAT(parse_list(R"(prefix=/a\,b,exclude=/c\\d,ro)").mirror.excludes, ElementsAre("/c\\d"));
  EXPECT_THAT(parse({"--prefix", "/a,b"}).mirror.prefixes, ElementsAre("/a,b"));
}

TEST(CommandLineTest, RepeatableOptionsAddUp) {
  EXPECT_THAT(parse({"--prefix", "a", "-o", "prefix=b,prefix=c", "--prefix=d"}).mirror.prefixes,
              ElementsAre("a", "b", "c", "d"));
}

TEST(CommandLineTest, LastOfOtherOptionsWinsInWhateverForm) {
  EXPECT_EQ(parse({"--threads=2", "-o", "threads=3"}).mirror.threads, 3U);
  EXPECT_EQ(parse({"-o", "threads=3", "--threads=2"}).mirror.threads, 2U);
  EXPECT_FALSE(parse({"-o", "ro", "--rw"}).mirror.read_only);
  EXPECT_TRUE(parse({"--rw", "-oro"}).mirror.read_only);
}

TEST(CommandLineTest, ReadOnlyAndNoatimeReachMountToo) {
  const MirrorConfig mirror = parse({"--ro", "--noatime"}).mirror;
  EXPECT_TRUE(mirror.read_only);
  EXPECT_TRUE(mirror.noatime);
  EXPECT_EQ(mirror.mount_flags, MS_NOSUID | MS_NODEV | MS_RDONLY | MS_NOATIME);
}

TEST(CommandLineTest, AllowOtherIsForRootUnlessSaid) {
  EXPECT_TRUE(parse({}, kRoot).mirror.allow_other);
  EXPECT_FALSE(parse({}, kUser).mirror.allow_other);
  EXPECT_FALSE(parse({"--no-allow-other"}, kRoot).mirror.allow_other);
  EXPECT_TRUE(parse_list("allow_other", kUser).mirror.allow_other);
}

TEST(CommandLineTest, ValuesAreParsed) {
  const MirrorConfig mirror = parse_list("passthrough=off,attr_timeout=0.5,entry_timeout=0,hold_warn=5min").mirror;
  EXPECT_FALSE(mirror.passthrough);
  EXPECT_EQ(mirror.attr_timeout.count(), 0.5);
  EXPECT_EQ(mirror.entry_timeout.count(), 0.0);
  EXPECT_EQ(mirror.hold_warn, milliseconds(300'000));
}

TEST(CommandLineTest, ForegroundLogsToStderr) {
  for (const char* const option : {"-f", "--foreground", "-oforeground"}) {
    const CommandLine command = parse({option});
    EXPECT_TRUE(command.foreground) << option;
    EXPECT_EQ(command.log.target, LogTarget::kStderr) << option;
    EXPECT_EQ(command.log.level, LogLevel::kInfo) << option;
  }
}

TEST(CommandLineTest, ShortDebugStaysInTheForegroundAndLongDoesNot) {
  EXPECT_TRUE(parse({"-d"}).foreground);
  EXPECT_EQ(parse({"-d"}).log.level, LogLevel::kDebug);
  EXPECT_FALSE(parse({"--debug"}).foreground);
  EXPECT_EQ(parse({"--debug"}).log.level, LogLevel::kDebug);
  EXPECT_FALSE(parse_list("debug").foreground);
  EXPECT_EQ(parse_list("debug").log.level, LogLevel::kDebug);
}

TEST(CommandLineTest, LogFileIsForBothForegroundAndBackground) {
  EXPECT_EQ(parse({"--log-file=/l"}).log.target, LogTarget::kFile);
  EXPECT_EQ(parse({"-f", "--log-file=/l"}).log.target, LogTarget::kFile);
  EXPECT_EQ(parse_list("log_file=/l").log.file, "/l");
}

TEST(CommandLineTest, LogLevelsAreNamed) {
  EXPECT_EQ(parse({"--log-level", "error"}).log.level, LogLevel::kError);
  EXPECT_EQ(parse({"--log-level", "warning"}).log.level, LogLevel::kWarning);
  EXPECT_EQ(parse({"-d", "--log-level", "info"}).log.level, LogLevel::kInfo);
}

TEST(CommandLineTest, OptionsMayFollowOperands) {
  const auto parsed = parse_command_line({"/src", "-f", "/mnt", "-o", "ro"}, kRoot);
  ASSERT_TRUE(parsed.ok());
  EXPECT_TRUE(parsed->foreground);
  EXPECT_TRUE(parsed->mirror.read_only);
  EXPECT_EQ(parsed->mirror.mountpoint, "/mnt");
}

TEST(CommandLineTest, OperandsAfterDashesMayBeginWithDash) {
  const auto parsed = parse_command_line({"-f", "--", "-o", "--help"}, kRoot);
  ASSERT_TRUE(parsed.ok());
  EXPECT_EQ(parsed->mirror.source, "-o");
  EXPECT_EQ(parsed->mirror.mountpoint, "--help");
}

TEST(CommandLineTest, OperandsKeepTheirBytes) {
  const auto parsed = parse_command_line({"/a b,\n\\,=\xFF", "/m_-\"x\""}, kRoot);
  ASSERT_TRUE(parsed.ok());
  EXPECT_EQ(parsed->mirror.source, "/a b,\n\\,=\xFF");
  EXPECT_EQ(parsed->mirror.mountpoint, "/m_-\"x\"");
}

TEST(CommandLineTest, HelpAndVersionNeedNoOperands) {
  for (const char* const option : {"-h", "--help"}) {
    const auto parsed = parse_command_line({option}, kRoot);
    ASSERT_TRUE(parsed.ok()) << option;
    EXPECT_EQ(parsed->request, CommandLine::Request::kHelp) << option;
  }
  for (const char* const option : {"-V", "--version"}) {
    const auto parsed = parse_command_line({option}, kRoot);
    ASSERT_TRUE(parsed.ok()) << option;
    EXPECT_EQ(parsed->request, CommandLine::Request::kVersion) << option;
  }
}

TEST(CommandLineTest, VersionNamesTheProgram) {
  EXPECT_THAT(version_text(), testing::MatchesRegex("flockfs [0-9.]+\n"));
}

TEST(UsageErrorTest, OperandsAreCounted) {
  EXPECT_EQ(complaint_of_operands({}), "SOURCE and MOUNTPOINT are missing");
  EXPECT_EQ(complaint_of_operands({"/src"}), "MOUNTPOINT is missing");
  EXPECT_EQ(complaint_of_operands({"/a", "/b", "/c", "/d"}), "one operand too many: '/c'");
}

TEST(UsageErrorTest, EmptyOperandIsAnOperand) {
  const auto parsed = parse_command_line({"", "/mnt"}, kRoot);
  ASSERT_TRUE(parsed.ok());
  EXPECT_EQ(parsed->mirror.source, "");
}

TEST(UsageErrorTest, ValueErrorNamesOptionAndValue) {
  const std::string expected = "option 'attr_timeout': 'x' is not a number of seconds";
  EXPECT_EQ(complaint({"--attr-timeout", "x"}), expected);
  EXPECT_EQ(complaint({"--attr_timeout=x"}), expected);
  EXPECT_EQ(complaint_of_list("attr_timeout=x"), expected);
  EXPECT_EQ(complaint_of_list("attr-timeout=x"), expected);
}

// git's convention: milliseconds, 0 to try once, -1 for ever.
TEST(CommandLineTest, LockIsASumOfWordsInAnyOrder) {
  const std::vector<std::pair<std::string, LockKind>> sums{{"flock", LockKind::kFlock},
                                                           {"ofd", LockKind::kOfd},
                                                           {"flock+ofd", LockKind::kFlockAndOfd},
                                                           {"ofd+flock", LockKind::kFlockAndOfd}};
  for (const auto& [words, kind] : sums) {
    for (const std::string& value : {words, words + "+lockfile", "lockfile+" + words}) {
      const MirrorConfig mirror = parse_list("lock=" + value).mirror;
      EXPECT_EQ(mirror.lock, kind) << value;
      EXPECT_EQ(mirror.lockfile, value != words) << value;
    }
  }
  EXPECT_EQ(parse_list("lock=flock+lockfile+ofd").mirror.lock, LockKind::kFlockAndOfd);
  for (const std::string value :
       {"", "+", "flock+", "+flock", "flock++ofd", "flock+flock", "lockfile", "lockfile+lockfile",
        "lockfile+flock+lockfile", "flock+lock", "Flock", "flock +ofd"}) {
    EXPECT_NE(complaint({"--lock=" + value}), "") << value;
  }
}

TEST(CommandLineTest, PoliciesOfLocking) {
  EXPECT_EQ(parse_list("lock=ofd").mirror.lock, LockKind::kOfd);
  EXPECT_EQ(parse_list("lock=flock+ofd").mirror.lock, LockKind::kFlockAndOfd);
  EXPECT_EQ(parse_list("lock=ofd,lock=flock").mirror.lock, LockKind::kFlock);
  EXPECT_EQ(parse_list("reopen=wait").mirror.reopen, Reopen::kWait);
  EXPECT_EQ(parse_list("reopen=wait,reopen=join").mirror.reopen, Reopen::kJoin);
  EXPECT_FALSE(parse_list("lock=flock+lockfile,lock=flock").mirror.lockfile);
  EXPECT_EQ(parse_list("timeout=250").mirror.timeout, milliseconds(250));
  EXPECT_EQ(parse_list("timeout=2s").mirror.timeout, milliseconds(2000));
  EXPECT_EQ(parse_list("timeout=5min").mirror.timeout, milliseconds(300'000));
  EXPECT_EQ(parse_list("timeout=0").mirror.timeout, milliseconds(0));
  EXPECT_FALSE(parse_list("timeout=0,timeout=-1").mirror.timeout.has_value());
  EXPECT_EQ(parse_list("on_timeout=unlocked").mirror.on_timeout, Otherwise::kUnlocked);
  EXPECT_EQ(parse_list("on_timeout=unlocked,on_timeout=fail").mirror.on_timeout, Otherwise::kFail);
  EXPECT_EQ(parse({"--on-unsupported", "unlocked"}).mirror.on_unsupported, Otherwise::kUnlocked);
  EXPECT_TRUE(parse_list("nonblock=try").mirror.try_nonblocking);
}

TEST(UsageErrorTest, EachKindOfValueIsChecked) {
  EXPECT_EQ(complaint({"--threads=0"}), "option 'threads': '0' is not a number from 1 to 256");
  EXPECT_EQ(complaint({"--threads=257"}), "option 'threads': '257' is not a number from 1 to 256");
  EXPECT_EQ(complaint({"--threads=2x"}), "option 'threads': '2x' is not a number from 1 to 256");
  EXPECT_EQ(complaint({"--passthrough=on"}), "option 'passthrough': 'on' is neither auto nor off");
  EXPECT_EQ(complaint({"--log-level=loud"}), "option 'log_level': 'loud' is none of error, warning, info, debug");
  EXPECT_THAT(complaint({"--timeout=-2"}), HasSubstr("option 'timeout': '-2' is not a time"));
  EXPECT_THAT(complaint({"--timeout=2h"}), HasSubstr("option 'timeout': '2h' is not a time"));
  EXPECT_EQ(complaint({"--on-timeout=wait"}), "option 'on_timeout': 'wait' is neither fail nor unlocked");
  EXPECT_EQ(complaint({"--on-unsupported=no"}), "option 'on_unsupported': 'no' is neither fail nor unlocked");
  EXPECT_EQ(complaint({"--reopen=no"}), "option 'reopen': 'no' is neither join nor wait");
  EXPECT_EQ(complaint({"--lock=posix"}),
            "option 'lock': 'posix' is none of flock, ofd, flock+ofd, with +lockfile or without");
  EXPECT_EQ(complaint({"--lock=lockfile"}), "option 'lock': 'lockfile' is no lock by itself (try flock+lockfile)");
  EXPECT_EQ(complaint({"--nonblock=yes"}), "option 'nonblock': 'yes' is neither wait nor try");
  EXPECT_THAT(complaint({"--hold-warn=-1"}), HasSubstr("option 'hold_warn': '-1' is not a time"));
  EXPECT_THAT(complaint({"--stop-timeout=1h"}), HasSubstr("option 'stop_timeout': '1h' is not a time"));
}

TEST(UsageErrorTest, MissingValueIsNamed) {
  EXPECT_EQ(complaint_of_list("prefix"), "option 'prefix' needs a value (PATH)");
  EXPECT_EQ(complaint_of_list("prefix=,ro"), "option 'prefix' needs a value (PATH)");
  EXPECT_EQ(complaint({"--prefix="}), "option 'prefix' needs a value (PATH)");
  EXPECT_EQ(complaint({"--log_file="}), "option 'log_file' needs a value (PATH)");
  EXPECT_EQ(complaint_of_operands({"/a", "/b", "--prefix"}), "option 'prefix' needs a value (PATH)");
  EXPECT_EQ(complaint_of_operands({"/a", "/b", "-o"}), "option '-o' needs a value (NAME[=VALUE],...)");
  EXPECT_EQ(complaint({"--prefix", ""}), "option 'prefix': the path is empty");
}

TEST(UsageErrorTest, UnwantedValueIsNamed) {
  EXPECT_EQ(complaint_of_list("ro=1"), "option 'ro' takes no value");
  EXPECT_EQ(complaint({"--ro=1"}), "option 'ro' takes no value");
  EXPECT_EQ(complaint({"--no_allow_other=1"}), "option 'no_allow_other' takes no value");
  EXPECT_EQ(complaint_of_list("nodev=1"), "option 'nodev' takes no value");
}

TEST(UsageErrorTest, UnknownOptionIsNamed) {
  EXPECT_EQ(complaint({"--frobnicate"}), "unknown option '--frobnicate'");
  EXPECT_EQ(complaint({"--frobnicate=3"}), "unknown option '--frobnicate'");
  EXPECT_EQ(complaint({"--frobnicate="}), "unknown option '--frobnicate'");
  EXPECT_EQ(complaint({"-x"}), "unknown option '-x'");
  EXPECT_EQ(complaint({"-fx"}), "unknown option '-x'");
  EXPECT_EQ(complaint_of_list("ro,frobnicate=3"), "unknown option 'frobnicate'");
}

TEST(UsageErrorTest, NamesAreNotGuessed) {
  EXPECT_EQ(complaint({"--pre", "/a"}), "unknown option '--pre'");
  EXPECT_EQ(complaint({"--stop=3s"}), "unknown option '--stop'");
}

TEST(UsageErrorTest, OptionsOfOtherFileSystemsAreUnknown) {
  for (const char* const name : {"allow_root", "direct_io", "kernel_cache", "fsname", "subtype", "writeback_cache",
                                 "default_permissions", "max_read", "modules", "bind", "shared"}) {
    EXPECT_EQ(complaint_of_list(name), "unknown option '" + std::string(name) + "'");
  }
}

TEST(UsageErrorTest, SubmountsAreShownOrHidden) {
  EXPECT_THAT(complaint_of_list("submounts=1"), HasSubstr("'1' is neither show nor hide"));
}

TEST(UsageErrorTest, OptionsOfTheCommandLineAreNoneOfAList) {
  EXPECT_EQ(complaint_of_list("help"), "unknown option 'help'");
  EXPECT_EQ(complaint_of_list("version"), "unknown option 'version'");
  EXPECT_EQ(complaint_of_list("o=ro"), "unknown option 'o'");
  EXPECT_EQ(complaint_of_list("d"), "unknown option 'd'");
}

TEST(UsageErrorTest, RefusalsSayWhy) {
  EXPECT_THAT(complaint_of_list("auto_unmount"), HasSubstr("option 'auto_unmount': after a crash"));
  EXPECT_THAT(complaint_of_list("io_uring"), HasSubstr("option 'io_uring': "));
  EXPECT_THAT(complaint_of_list("remount,ro"), HasSubstr("option 'remount': a mirror cannot be remounted"));
  EXPECT_THAT(complaint({"--auto-unmount"}), HasSubstr("option 'auto_unmount': after a crash"));
}

TEST(UsageErrorTest, MountWordAsLongOptionIsExplained) {
  EXPECT_EQ(complaint({"--nodev"}), "unknown option '--nodev', but there is '-o nodev'");
}

TEST(MountFlagsTest, GenericOptionsReachTheKernel) {
  EXPECT_EQ(parse_list("noexec,sync,dirsync,nodiratime").mirror.mount_flags,
            MS_NOSUID | MS_NODEV | MS_NOEXEC | MS_SYNCHRONOUS | MS_DIRSYNC | MS_NODIRATIME);
  EXPECT_EQ(parse_list("relatime,strictatime,lazytime,silent,nosymfollow").mirror.mount_flags,
            MS_NOSUID | MS_NODEV | MS_RELATIME | MS_STRICTATIME | MS_LAZYTIME | MS_SILENT | MS_NOSYMFOLLOW);
}

TEST(MountFlagsTest, LaterWordsOverrideEarlierOnes) {
  EXPECT_EQ(parse_list("noexec,exec,sync,async,noatime,atime,ro,rw").mirror.mount_flags, MS_NOSUID | MS_NODEV);
  EXPECT_EQ(parse_list("exec,noexec").mirror.mount_flags, MS_NOSUID | MS_NODEV | MS_NOEXEC);
}

TEST(MountFlagsTest, SuidAndDevAreForRoot) {
  EXPECT_EQ(parse_list("suid,dev", kRoot).mirror.mount_flags, 0U);
  EXPECT_EQ(complaint_of_list("suid", kUser), "option 'suid': only root may ask for it");
  EXPECT_EQ(complaint_of_list("dev", kUser), "option 'dev': only root may ask for it");
  EXPECT_EQ(parse_list("suid,nosuid", kUser).mirror.mount_flags, MS_NOSUID | MS_NODEV);
}

TEST(MountFlagsTest, WordsOfFstabAreDropped) {
  const std::string words =
      "defaults,auto,noauto,nouser,nofail,_netdev,comment=a b,x-systemd.automount,x-gvfs-name=a,X-mount.mkdir=0755";
  EXPECT_EQ(parse_list(words).mirror.mount_flags, MS_NOSUID | MS_NODEV);
}

TEST(MountFlagsTest, DefaultsLeavesNosuidAndNodev) {
  EXPECT_EQ(parse_list("defaults,ro").mirror.mount_flags, MS_NOSUID | MS_NODEV | MS_RDONLY);
}

TEST(MountFlagsTest, UserImpliesNoexecUnlessSaidLater) {
  for (const char* const word : {"user", "users", "user=bob"}) {
    EXPECT_EQ(parse_list(word).mirror.mount_flags, MS_NOSUID | MS_NODEV | MS_NOEXEC) << word;
  }
  EXPECT_EQ(parse_list("user,exec").mirror.mount_flags, MS_NOSUID | MS_NODEV);
  EXPECT_EQ(parse_list("exec,user").mirror.mount_flags, MS_NOSUID | MS_NODEV | MS_NOEXEC);
  EXPECT_EQ(parse_list("suid,owner").mirror.mount_flags, MS_NOSUID | MS_NODEV);
  EXPECT_EQ(parse_list("suid,group,exec").mirror.mount_flags, MS_NOSUID | MS_NODEV);
}

}  // namespace
}  // namespace flockfs
