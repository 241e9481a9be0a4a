#include "cli/paths.h"

#include <gmock/gmock.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "temp_directory.h"

namespace flockfs {
namespace {

namespace fs = std::filesystem;
using testing::ElementsAre;
using testing::HasSubstr;

// A source with a directory "d", a file "f", and a mount point, in a directory of their own.
class PathsTest : public testing::Test {
 protected:
  PathsTest() {
    fs::create_directories(base_ + "/src/d");
    fs::create_directories(base_ + "/mnt");
    std::ofstream(base_ + "/src/f") << "x";
    command_.mirror.source = base_ + "/src";
    command_.mirror.mountpoint = base_ + "/mnt";
  }

  std::string operands_complaint() {
    const Status resolved = resolve_operands(command_);
    EXPECT_FALSE(resolved.ok());
    return resolved.ok() ? "" : resolved.error().message();
  }
  std::string option_complaint() {
    const Status resolved = resolve_option_paths(command_);
    EXPECT_FALSE(resolved.ok());
    return resolved.ok() ? "" : resolved.error().message();
  }
  [[nodiscard]] std::string prefix_of(const std::string& path) {
    command_.mirror.prefixes = {path};
    const Status resolved = resolve_option_paths(command_);
    return resolved.ok() ? command_.mirror.prefixes[0] : resolved.error().message();
  }

  const TempDirectory directory_;
  const std::string& base_ = directory_.path();
  CommandLine command_;
};

TEST_F(PathsTest, OperandsBecomeCanonical) {
  fs::create_symlink("src", base_ + "/link");
  command_.mirror.source = base_ + "/link/d/..";
  command_.mirror.mountpoint = base_ + "//mnt/";
  ASSERT_TRUE(resolve_operands(command_).ok());
  EXPECT_EQ(command_.mirror.source, base_ + "/src");
  EXPECT_EQ(command_.mirror.mountpoint, base_ + "/mnt");
}

TEST_F(PathsTest, OperandsWithStrangeNamesWork) {
  const std::string name = base_ + "/a b,\n\\\"=\xFF";
  fs::create_directory(name);
  command_.mirror.source = name;
  ASSERT_TRUE(resolve_operands(command_).ok());
  EXPECT_EQ(command_.mirror.source, name);
}

TEST_F(PathsTest, MissingOperandIsNamedWithReason) {
  command_.mirror.source = base_ + "/none";
  EXPECT_EQ(operands_complaint(), "source '" + base_ + "/none': No such file or directory");
  command_.mirror.source = base_ + "/src";
  command_.mirror.mountpoint = base_ + "/none";
  EXPECT_EQ(operands_complaint(), "mountpoint '" + base_ + "/none': No such file or directory");
}

TEST_F(PathsTest, EmptyOperandIsAnError) {
  command_.mirror.source = "";
  EXPECT_EQ(operands_complaint(), "source '': No such file or directory");
}

TEST_F(PathsTest, OperandsMustBeDirectories) {
  command_.mirror.mountpoint = base_ + "/src/f";
  EXPECT_EQ(operands_complaint(), "mountpoint '" + base_ + "/src/f': Not a directory");
}

TEST_F(PathsTest, PrefixMayBeRelativeToSource) {
  EXPECT_EQ(prefix_of("d"), base_ + "/src/d");
  EXPECT_EQ(prefix_of("./d/"), base_ + "/src/d");
  EXPECT_EQ(prefix_of("."), base_ + "/src");
}

TEST_F(PathsTest, PrefixMayBeAbsolute) {
  EXPECT_EQ(prefix_of(base_ + "/src/d/../f"), base_ + "/src/f");
  EXPECT_EQ(prefix_of(base_ + "/src"), base_ + "/src");
}

TEST_F(PathsTest, PrefixNeedNotExist) {
  EXPECT_EQ(prefix_of("new/file"), base_ + "/src/new/file");
  EXPECT_EQ(prefix_of("new/"), base_ + "/src/new");
}

TEST_F(PathsTest, SymlinksInPrefixAreResolved) {
  fs::create_symlink("d", base_ + "/src/l");
  EXPECT_EQ(prefix_of("l/new"), base_ + "/src/d/new");
}

TEST_F(PathsTest, PrefixOutsideSourceIsNamed) {
  fs::create_directory(base_ + "/srcother");
  EXPECT_EQ(prefix_of(base_ + "/srcother"),
            "option 'prefix': '" + base_ + "/srcother' is outside SOURCE '" + base_ + "/src'");
  EXPECT_THAT(prefix_of("../mnt"), HasSubstr("option 'prefix': '../mnt' is outside SOURCE"));
  EXPECT_THAT(prefix_of("new/../../mnt"), HasSubstr("is outside SOURCE"));
  fs::create_symlink("../mnt", base_ + "/src/out");
  EXPECT_THAT(prefix_of("out/x"), HasSubstr("(it is '" + base_ + "/mnt/x')"));
}

TEST_F(PathsTest, PrefixThatCannotBeResolvedIsNamed) {
  fs::create_symlink("loop", base_ + "/src/loop");
  EXPECT_THAT(prefix_of("loop"), HasSubstr("option 'prefix': '" + base_ + "/src/loop': Too many levels"));
}

TEST_F(PathsTest, ExcludesAreResolvedLikePrefixes) {
  command_.mirror.excludes = {"d", "f"};
  ASSERT_TRUE(resolve_option_paths(command_).ok());
  EXPECT_THAT(command_.mirror.excludes, ElementsAre(base_ + "/src/d", base_ + "/src/f"));
  command_.mirror.excludes = {"/etc"};
  EXPECT_THAT(option_complaint(), HasSubstr("option 'exclude': '/etc' is outside SOURCE"));
}

TEST_F(PathsTest, LogFileIsRelativeToTheWorkingDirectory) {
  command_.log = {LogTarget::kFile, "x.log", LogLevel::kInfo};
  ASSERT_TRUE(resolve_option_paths(command_).ok());
  EXPECT_EQ(command_.log.file, fs::current_path().string() + "/x.log");
}

TEST_F(PathsTest, LogFileBelowMountpointIsRefused) {
  command_.log = {LogTarget::kFile, base_ + "/mnt/x.log", LogLevel::kInfo};
  EXPECT_THAT(option_complaint(), HasSubstr("option 'log_file': '" + base_ + "/mnt/x.log' is below MOUNTPOINT"));
  fs::create_symlink("mnt", base_ + "/l");
  command_.log.file = base_ + "/l/x.log";
  EXPECT_THAT(option_complaint(), HasSubstr("is below MOUNTPOINT"));
  command_.log.file = base_ + "/mnt.log";
  EXPECT_TRUE(resolve_option_paths(command_).ok());
}

TEST(IsAtOrBelowTest, WholeComponentsCount) {
  EXPECT_TRUE(is_at_or_below("/a", "/a"));
  EXPECT_TRUE(is_at_or_below("/a/b", "/a"));
  EXPECT_FALSE(is_at_or_below("/ab", "/a"));
  EXPECT_FALSE(is_at_or_below("/", "/a"));
  EXPECT_TRUE(is_at_or_below("/a", "/"));
  EXPECT_TRUE(is_at_or_below("/", "/"));
}

}  // namespace
}  // namespace flockfs
