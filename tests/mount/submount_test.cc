// File systems that are mounted below the source.

#include <fcntl.h>

#include <cerrno>
#include <string>
#include <vector>

#include "harness/file_systems.h"
#include "harness/mirror_test.h"
#include "harness/program.h"

namespace flockfs::test {
namespace {

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
