// What stands in a record of lock files is believed in nothing but its form: it decides which files are looked at.

#include "mirror/lock_file_text.h"

#include <gmock/gmock.h>
#include <limits.h>

#include <random>
#include <string>

namespace flockfs {
namespace {

RecordedLockFile file() { return {{4711, 1'700'000'000'123'456'789, {}, 1000}, "a dir/b\n", "\xff\n x.lock"}; }

std::string line_of(const RecordedLockFile& recorded) {
  auto line = record_line(recorded);
  EXPECT_TRUE(line.has_value());
  EXPECT_TRUE(line && line->starts_with('\n') && line->ends_with('\n'));
  return line ? line->substr(1, line->size() - 2) : std::string{};
}

TEST(LockFileTextTest, WhatIsWrittenIsReadBack) {
  EXPECT_EQ(parse_record_line(line_of(file())), file());
  RecordedLockFile other = file();
  other.directory.clear();
  other.identity.birth_ns = 0;
  other.identity.handle = FileHandle("\0\1\2\n", 4);
  EXPECT_EQ(parse_record_line(line_of(other)), other);
  EXPECT_EQ(line_of(file()).find_first_of("\n\r"), std::string::npos) << "a name with a newline is no two lines";
}

TEST(LockFileTextTest, WhatCouldNotBeReadBackIsNotWritten) {
  const auto refused = [](const auto& change) {
    RecordedLockFile recorded = file();
    change(recorded);
    return !record_line(recorded).has_value();
  };
  EXPECT_TRUE(refused([](RecordedLockFile& recorded) { recorded.identity.birth_ns = 0; })) << "proves nothing";
  EXPECT_TRUE(refused([](RecordedLockFile& recorded) { recorded.identity.ino = 0; }));
  EXPECT_TRUE(refused([](RecordedLockFile& recorded) { recorded.directory = std::string(PATH_MAX, 'x'); }));
  EXPECT_TRUE(refused([](RecordedLockFile& recorded) { recorded.directory = "/etc"; }));
  EXPECT_TRUE(refused([](RecordedLockFile& recorded) { recorded.name = "x"; }));
  std::string deep = "d";
  while (deep.size() < PATH_MAX - 2) deep += "/d";
  EXPECT_FALSE(refused([&](RecordedLockFile& recorded) {
    recorded.directory = deep;
    recorded.name = std::string(NAME_MAX - 5, 'n') + ".lock";
  }));
}

std::string hex(std::string_view bytes) {
  std::string text;
  for (const char c : bytes) {
    text += "0123456789abcdef"[static_cast<unsigned char>(c) >> 4];
    text += "0123456789abcdef"[static_cast<unsigned char>(c) & 15];
  }
  return text.empty() ? "-" : text;
}

std::string line_with(std::string_view directory, std::string_view name) {
  return "+ 0 12 34 - " + hex(directory) + " " + hex(name) + " .";
}

TEST(LockFileTextTest, PlacesThatLeadElsewhereAreRefused) {
  using namespace std::string_view_literals;
  EXPECT_TRUE(parse_record_line(line_with("a/b", "x.lock")));
  for (const auto directory : {"/"sv, "/etc"sv, ".."sv, "../x"sv, "a/../b"sv, "a/.."sv, "."sv, "./a"sv, "a/./b"sv,
                               "a//b"sv, "a/"sv, "\0"sv, "a\0b"sv, "a/\0"sv}) {
    EXPECT_FALSE(parse_record_line(line_with(directory, "x.lock"))) << directory;
  }
  for (const auto name : {""sv, ".lock"sv, "x"sv, "x.loc"sv, "x.lock "sv, "../x.lock"sv, "a/x.lock"sv, "/x.lock"sv,
                          "x\0.lock"sv, ".."sv, "passwd"sv}) {
    EXPECT_FALSE(parse_record_line(line_with("", name))) << name;
  }
  EXPECT_FALSE(parse_record_line(line_with(std::string(PATH_MAX, 'a'), "x.lock")));
  EXPECT_FALSE(parse_record_line(line_with(std::string(NAME_MAX + 1, 'a'), "x.lock")));
  EXPECT_FALSE(parse_record_line(line_with("", std::string(NAME_MAX, 'a') + ".lock")));
}

TEST(LockFileTextTest, LinesThatAreNotWholeAreRefused) {
  const std::string whole = line_of(file());
  for (std::size_t size = 0; size < whole.size(); ++size) {
    EXPECT_FALSE(parse_record_line(whole.substr(0, size))) << size;
    EXPECT_FALSE(parse_record_line(whole.substr(whole.size() - size))) << size;
  }
  for (const char* const wrong :
       {"+ 0 12 34 - - 782e6c6f636b", "+ 0 12 34 - - 782e6c6f636b . ", " + 0 12 34 - - 782e6c6f636b .",
        "- 0 12 34 - - 782e6c6f636b .", "+ -1 12 34 - - 782e6c6f636b .", "+ 0 -12 34 - - 782e6c6f636b .",
        "+ 0 0 34 - - 782e6c6f636b .", "+ 0 12 0 - - 782e6c6f636b .", "+ 0 12 34 - - 782E6C6F636B .",
        "+ 0 12 34 - - 782e6c6f636 .", "+ 0 12 34 - - 782e6c6f636z .", "+  0 12 34 - - 782e6c6f636b .",
        "+ 0x0 12 34 - - 782e6c6f636b .", "+ 0 99999999999999999999 34 - - 782e6c6f636b .",
        "+ 4294967296 12 34 - - 782e6c6f636b .", "+ 0 12 34 - - - .", "+ 0 12 34  - 782e6c6f636b ."}) {
    EXPECT_FALSE(parse_record_line(wrong)) << wrong;
  }
  EXPECT_FALSE(parse_record_line("+ 0 12 34 " + std::string(2 * 257, '0') + " - 782e6c6f636b ."));
  EXPECT_FALSE(parse_record_line(std::string(1 << 20, '+')));
  EXPECT_FALSE(parse_record_line(std::string(1 << 20, ' ')));
}

TEST(LockFileTextTest, NoiseIsRefusedOrAsHarmlessAsALine) {
  std::mt19937 random(7);
  const std::string whole = line_of(file());
  for (int round = 0; round < 20000; ++round) {
    std::string line = whole;
    for (unsigned change = 0; change <= random() % 3; ++change) {
      line[random() % line.size()] = static_cast<char>(random() % 256);
    }
    const auto parsed = parse_record_line(line);
    if (!parsed) continue;
    EXPECT_TRUE(parsed->name.ends_with(".lock"));
    EXPECT_EQ(parsed->name.find('/'), std::string::npos);
    EXPECT_FALSE(parsed->directory.starts_with('/'));
    EXPECT_EQ(("/" + parsed->directory + "/").find("/../"), std::string::npos);
  }
}

TEST(LockFileTextTest, HeadNamesTheSource) {
  EXPECT_EQ(parse_record_head(record_head("/srv/a\nb") + "\n+ rest"), "/srv/a\nb");
  EXPECT_EQ(parse_record_head(record_head("/")), "/");
  for (const std::string& wrong :
       {std::string(), std::string("flockfs lock files 1\n"), std::string("flockfs lock files 2\nsource 2f\n"),
        std::string("flockfs lock files 1\nsource 2f"), std::string("flockfs lock files 1\nsource -\n"),
        std::string("flockfs lock files 1\nsource 61\n"), std::string("flockfs lock files 1\nsource 2\n"),
        "x" + record_head("/"), record_head("/" + std::string(PATH_MAX, 'x'))}) {
    EXPECT_FALSE(parse_record_head(wrong)) << wrong;
  }
}

TEST(LockFileTextTest, OnlyWhatIsCertainIsTheSameObject) {
  const LockFileIdentity born{7, 100, {}, 0};
  EXPECT_TRUE(same_object(born, {7, 100, {}, 5}));
  EXPECT_FALSE(same_object(born, {8, 100, {}, 0}));
  EXPECT_FALSE(same_object(born, {7, 101, {}, 0}));
  const LockFileIdentity handled{7, 0, "handle", 0};
  EXPECT_TRUE(same_object(handled, {7, 0, "handle", 0}));
  EXPECT_FALSE(same_object(handled, {7, 0, "other", 0}));
  EXPECT_FALSE(same_object({7, 0, {}, 0}, {7, 0, {}, 0})) << "an inode number alone proves nothing";
}

}  // namespace
}  // namespace flockfs
