#include "helper_arguments.h"

#include <gmock/gmock.h>

namespace flockfs {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using Arguments = std::vector<std::string>;

HelperArguments parse(const Arguments& arguments) {
  const auto parsed = parse_helper_arguments(arguments);
  EXPECT_TRUE(parsed.ok()) << parsed.error().message();
  return parsed.ok() ? *parsed : HelperArguments{};
}

std::string complaint(const Arguments& arguments) {
  const auto parsed = parse_helper_arguments(arguments);
  EXPECT_FALSE(parsed.ok());
  return parsed.ok() ? "" : parsed.error().message();
}

TEST(HelperArgumentsTest, CallOfMountBecomesCallOfFlockfs) {
  EXPECT_THAT(parse({"/src", "/mnt", "-o", "rw,prefix=/a"}).flockfs_arguments(),
              ElementsAre("flockfs", "-o", "rw,prefix=/a", "--", "/src", "/mnt"));
}

TEST(HelperArgumentsTest, WithoutOptionsThereIsNoList) {
  EXPECT_THAT(parse({"/src", "/mnt"}).flockfs_arguments(), ElementsAre("flockfs", "--", "/src", "/mnt"));
}

TEST(HelperArgumentsTest, LettersOfMountAreTaken) {
  const HelperArguments arguments = parse({"/src", "/mnt", "-sfnv", "-t", "fuse.flockfs", "-N", "12"});
  EXPECT_TRUE(arguments.fake);
  EXPECT_TRUE(arguments.verbose);
  EXPECT_EQ(arguments.mount_namespace, "12");
}

TEST(HelperArgumentsTest, ReadOnlyAndWritableKeepTheirOrder) {
  EXPECT_THAT(parse({"/s", "/m", "-r", "-o", "nodev", "-w"}).flockfs_arguments(),
              ElementsAre("flockfs", "-o", "ro,nodev,rw", "--", "/s", "/m"));
}

TEST(HelperArgumentsTest, QuotedCommaBecomesEscapedComma) {
  EXPECT_THAT(parse({"/s", "/m", "-o", R"(prefix="/a,b",ro)"}).flockfs_arguments(),
              ElementsAre("flockfs", "-o", R"(prefix=/a\,b,ro)", "--", "/s", "/m"));
}

TEST(HelperArgumentsTest, EscapedCommaStaysEscaped) {
  EXPECT_THAT(parse({"/s", "/m", "-o", R"(prefix=/a\,b,exclude=/c\\d)"}).flockfs_arguments(),
              ElementsAre("flockfs", "-o", R"(prefix=/a\,b,exclude=/c\\d)", "--", "/s", "/m"));
}

TEST(HelperArgumentsTest, SloppyDropsWhatNobodyKnows) {
  EXPECT_THAT(parse({"/s", "/m", "-s", "-o", "uid=5,ro,frob,nodev,remount"}).flockfs_arguments(),
              ElementsAre("flockfs", "-o", "ro,nodev,remount", "--", "/s", "/m"));
  EXPECT_THAT(parse({"/s", "/m", "-o", "uid=5", "-s"}).flockfs_arguments(), ElementsAre("flockfs", "--", "/s", "/m"));
}

TEST(HelperArgumentsTest, WithoutSloppyUnknownOptionsReachFlockfs) {
  EXPECT_THAT(parse({"/s", "/m", "-o", "uid=5"}).flockfs_arguments(),
              ElementsAre("flockfs", "-o", "uid=5", "--", "/s", "/m"));
}

TEST(HelperArgumentsTest, OperandsKeepTheirBytes) {
  EXPECT_THAT(parse({"/a b,\n$(x);'", "/m`y`"}).flockfs_arguments(),
              ElementsAre("flockfs", "--", "/a b,\n$(x);'", "/m`y`"));
}

TEST(HelperArgumentsTest, OperandsAfterDashesMayBeginWithDash) {
  EXPECT_THAT(parse({"-r", "--", "-f", "--version"}).flockfs_arguments(),
              ElementsAre("flockfs", "-o", "ro", "--", "-f", "--version"));
}

TEST(HelperArgumentsTest, TypesOfOthersAreRefused) {
  EXPECT_TRUE(parse_helper_arguments({"/s", "/m", "-t", "flockfs"}).ok());
  EXPECT_THAT(complaint({"/s", "/m", "-t", "ext4"}), HasSubstr("type 'ext4'"));
  EXPECT_THAT(complaint({"/s", "/m", "-t", "fuse"}), HasSubstr("type 'fuse'"));
}

TEST(HelperArgumentsTest, WrongCallsAreExplained) {
  EXPECT_EQ(complaint({}), "SOURCE and MOUNTPOINT are missing");
  EXPECT_EQ(complaint({"/s"}), "MOUNTPOINT is missing");
  EXPECT_EQ(complaint({"/s", "/m", "/x"}), "one operand too many: '/x'");
  EXPECT_EQ(complaint({"/s", "/m", "-z"}), "unknown option '-z'");
  EXPECT_EQ(complaint({"/s", "/m", "--frob"}), "unknown option '--frob'");
  EXPECT_EQ(complaint({"/s", "/m", "-o"}), "option '-o' needs a value");
}

TEST(HelperArgumentsTest, HelpAndVersionNeedNoOperands) {
  EXPECT_EQ(parse({"--help"}).request, HelperArguments::Request::kHelp);
  EXPECT_EQ(parse({"-V"}).request, HelperArguments::Request::kVersion);
}

}  // namespace
}  // namespace flockfs
