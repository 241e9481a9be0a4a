#include "cli/config_file.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <cerrno>
#include <fstream>
#include <string>
#include <vector>

#include "temp_directory.h"

namespace flockfs {
namespace {

// "LINE NAME=VALUE" or "LINE NAME" of each setting.
std::vector<std::string> settings_of(std::string_view text) {
  std::vector<std::string> all;
  for (const ConfigSetting& setting : parse_config(text)) {
    std::string one = std::to_string(setting.line) + " " + setting.option.name;
    if (setting.option.value) one += "=" + *setting.option.value;
    all.push_back(one);
  }
  return all;
}

using Settings = std::vector<std::string>;

TEST(ParseConfigTest, LinesOfNamesAndValues) {
  EXPECT_EQ(settings_of("source = /a\nro\ntimeout=5min\n"), (Settings{"1 source=/a", "2 ro", "3 timeout=5min"}));
}

TEST(ParseConfigTest, CommentsAndEmptyLinesCountAsLines) {
  EXPECT_EQ(settings_of("# one\n\n;two\n   \n  # three\nro\n"), (Settings{"6 ro"}));
  EXPECT_EQ(settings_of(""), Settings{});
  EXPECT_EQ(settings_of("\n\n"), Settings{});
}

TEST(ParseConfigTest, TheLastLineNeedsNoEnd) { EXPECT_EQ(settings_of("ro\nrw"), (Settings{"1 ro", "2 rw"})); }

TEST(ParseConfigTest, BlanksAroundDoNotCountAndThoseWithinDo) {
  EXPECT_EQ(settings_of(" \t source\t =  /with a blank  \r\n"), (Settings{"1 source=/with a blank"}));
}

TEST(ParseConfigTest, ValuesAreTakenAsTheyAre) {
  EXPECT_EQ(settings_of("source = /a=b\nexclude = \"/c\" #d ; \\e,f\n"),
            (Settings{"1 source=/a=b", "2 exclude=\"/c\" #d ; \\e,f"}));
}

TEST(ParseConfigTest, AnEmptyValueIsOne) { EXPECT_EQ(settings_of("source =\n= x\n"), (Settings{"1 source=", "2 =x"})); }

class ReadConfigTest : public testing::Test {
 protected:
  [[nodiscard]] std::string file(const std::string& text, mode_t mode = 0644) const {
    const std::string path = dir_ + "/c.conf";
    std::ofstream(path) << text;
    EXPECT_EQ(::chmod(path.c_str(), mode), 0);
    return path;
  }
  // The message of the refusal.
  static std::string refusal(const std::string& path) {
    auto read = read_config_file(path);
    EXPECT_FALSE(read.ok());
    return read.ok() ? "" : read.error().message();
  }

  const TempDirectory directory_;
  const std::string& dir_ = directory_.path();
};

TEST_F(ReadConfigTest, AFileOfOnesOwn) {
  auto read = read_config_file(file("ro\n"));
  ASSERT_TRUE(read.ok()) << read.error().message();
  EXPECT_EQ(read->size(), 1u);
}

TEST_F(ReadConfigTest, WhatOthersMayWriteIsRefused) {
  const std::string path = file("ro\n", 0646);
  EXPECT_EQ(refusal(path), "'" + path + "': others may write there");
}

TEST_F(ReadConfigTest, WhatIsNoFileIsRefusedAtOnce) {
  EXPECT_EQ(refusal(dir_), "'" + dir_ + "' is no regular file");
  const std::string fifo = dir_ + "/fifo";
  ASSERT_EQ(::mkfifo(fifo.c_str(), 0600), 0);
  EXPECT_EQ(refusal(fifo), "'" + fifo + "' is no regular file");
}

TEST_F(ReadConfigTest, WhatIsNotThereIsNamed) {
  auto read = read_config_file(dir_ + "/none");
  ASSERT_FALSE(read.ok());
  EXPECT_EQ(read.error().code, ENOENT);
  EXPECT_NE(read.error().message().find(dir_ + "/none"), std::string::npos);
}

TEST_F(ReadConfigTest, WhatIsTooLongIsRefused) {
  auto read = read_config_file(file(std::string((1U << 20U) + 1, '#')));
  ASSERT_FALSE(read.ok());
  EXPECT_EQ(read.error().code, EFBIG);
}

// A path with one in it would be another one.
TEST_F(ReadConfigTest, AZeroByteIsRefused) {
  const std::string path = file(std::string("source = /a\0b\n", 14));
  EXPECT_EQ(refusal(path), "'" + path + "' is no text: it has a zero byte");
}

}  // namespace
}  // namespace flockfs
