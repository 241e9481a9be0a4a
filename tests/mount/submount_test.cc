// File systems that are mounted below the source.

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <set>
#include <string>
#include <vector>

#include "harness/file_systems.h"
#include "harness/mirror_test.h"
#include "harness/program.h"

namespace flockfs::test {
namespace {

// Files of two file systems with the same inode number are no links of each other, although the mirror has one st_dev.
class EqualNumbersTest : public MirrorTest {
 protected:
  const std::vector<std::string> places_{"one", "one/below", "two"};

  void SetUp() override {
    // tmpfs counts inode numbers from its start, so that they are alike in the first and the last.
    for (const std::string place : {"one", "two"}) {
      make_dir(source(place));
      ASSERT_EQ(mount_tmpfs(source(place)), 0);
      make_dir(source(place + "/below"));
    }
    ASSERT_EQ(mount_tmpfs(source("one/below")), 0);
    for (const std::string& place : places_) {
      write_file(source(place + "/first"), "of " + place);
      ASSERT_EQ(::link(source(place + "/first").c_str(), source(place + "/second").c_str()), 0);
    }
  }
  // Whether both names of each place, and nobody else's, are one file with what belongs there.
  void expect_right(const std::string& root) const {
    std::set<ino_t> numbers;
    for (const std::string& place : places_) {
      const struct stat first = stat_of(root + "/" + place + "/first");
      const struct stat second = stat_of(root + "/" + place + "/second");
      EXPECT_EQ(first.st_ino, second.st_ino) << root << " " << place;
      EXPECT_EQ(first.st_nlink, 2u) << root << " " << place;
      EXPECT_EQ(read_file(root + "/" + place + "/first"), "of " + place) << root;
      EXPECT_EQ(read_file(root + "/" + place + "/second"), "of " + place) << root;
      numbers.insert(first.st_ino);
    }
    EXPECT_EQ(numbers.size(), places_.size()) << root;
  }
};

TEST_F(EqualNumbersTest, AreNotTakenForHardLinksByTarAndRsync) {
  ASSERT_EQ(stat_of(source("one/first")).st_ino, stat_of(source("two/first")).st_ino);
  mount();
  EXPECT_TRUE(in_child([&] { expect_right(mnt()); }));
  const std::string by_tar = folder("by-tar");
  const std::string by_rsync = folder("by-rsync");
  const auto archived = run_program({"tar", "-C", mnt(), "-cf", tree() / "archive", "."});
  ASSERT_EQ(archived.exit_code, 0) << archived;
  const auto restored = run_program({"tar", "-C", by_tar, "-xf", tree() / "archive"});
  ASSERT_EQ(restored.exit_code, 0) << restored;
  const auto copied = run_program({"rsync", "-aH", mnt() + "/", by_rsync});
  ASSERT_EQ(copied.exit_code, 0) << copied;
  expect_right(by_tar);
  expect_right(by_rsync);
}

class SubmountTest : public MirrorTest {
 protected:
  void SetUp() override {
    make_dir(source("sub"));
    ASSERT_EQ(mount_tmpfs(source("sub")), 0);
    write_file(source("sub/inside"), "x");
    write_file(source("outside"), "y");
  }
};

TEST_F(SubmountTest, AreShownUnlessAskedOtherwise) {
  mount();
  EXPECT_TRUE(in_child([&] { EXPECT_EQ(list_dir(mnt("sub")), std::vector<std::string>{"inside"}); }));
}

TEST_F(SubmountTest, HiddenOnesAreEmptyDirectoriesAsWithOneFileSystem) {
  mount({.options = {"submounts=hide"}});
  EXPECT_TRUE(in_child([&] {
    EXPECT_EQ(list_dir(mnt("sub")), std::vector<std::string>{});
    EXPECT_EQ(open_error(mnt("sub/inside"), O_RDONLY), ENOENT);
    EXPECT_NE(open_error(mnt("sub/new"), O_WRONLY | O_CREAT), 0);
    EXPECT_EQ(read_file(mnt("outside")), "y");
  }));
  const auto compared = run_program({"rsync", "-ax", "--itemize-changes", "--dry-run", source() + "/", mnt() + "/"});
  EXPECT_EQ(compared.exit_code, 0) << compared;
  EXPECT_EQ(compared.out, "") << "rsync -x of the source would make other files of the mirror";
  EXPECT_TRUE(log().wait_for({.event = "empty"})) << log().text();
}

}  // namespace
}  // namespace flockfs::test
