// DESIGN 2, prefix and exclude: which files are locked. Whole components; the longest match decides; canonical paths.

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <string>
#include <vector>

#include "harness/mirror_test.h"
#include "harness/program.h"

namespace flockfs::test {
namespace {

class FilterTest : public MirrorTest {
 protected:
  void SetUp() override {
    for (const std::string dir : {"a", "a/in", "a/in/deep", "ab", "b"}) make_dir(source(dir));
    for (const std::string file : {"f", "a/f", "a/in/f", "a/in/deep/f", "ab/f", "b/f"}) {
      write_file(source(file), "contents");
    }
  }
  // An open of the file takes the lock, and waits for it.
  void expect_locked(const std::string& name) {
    SCOPED_TRACE(name);
    Opener opener(mnt(name), O_RDWR);
    ASSERT_TRUE(opener.opens());
    EXPECT_EQ(source_lock(source(name)), LockSeen::kExclusive);
    opener.close();
    EXPECT_TRUE(becomes_free(source(name)));
  }
  // An open of the file takes none, waits for none, and is logged as passed for this reason.
  void expect_passed(const std::string& name, const std::string& reason) {
    SCOPED_TRACE(name);
    ForeignLock foreign(source(name), LOCK_EX);
    Opener opener(mnt(name), O_RDWR);
    ASSERT_TRUE(opener.opens());
    foreign.release();
    EXPECT_EQ(source_lock(source(name)), LockSeen::kFree);
    EXPECT_TRUE(log().wait_for({.event = "pass", .path = source(name), .pid = opener.pid(), .reason = reason}))
        << log().text();
    opener.close();
  }
};

TEST_F(FilterTest, WithoutRulesEverythingIsLocked) {
  mount();
  for (const std::string name : {"f", "a/f", "a/in/deep/f"}) expect_locked(name);
  EXPECT_EQ(log().count({.event = "pass"}), 0u);
}

TEST_F(FilterTest, PrefixSelectsItsPathByWholeComponents) {
  mount({.options = {"prefix=" + source("a")}});
  for (const std::string name : {"a/f", "a/in/f", "a/in/deep/f"}) expect_locked(name);
  for (const std::string name : {"f", "ab/f", "b/f"}) expect_passed(name, "prefix");
}

TEST_F(FilterTest, PrefixMayRepeatAndBeRelativeToTheSource) {
  mount({.options = {"prefix=a/in", "prefix=b"}});
  for (const std::string name : {"a/in/f", "a/in/deep/f", "b/f"}) expect_locked(name);
  for (const std::string name : {"f", "a/f", "ab/f"}) expect_passed(name, "prefix");
}

TEST_F(FilterTest, PrefixMayBeOneFile) {
  mount({.options = {"prefix=a/f"}});
  expect_locked("a/f");
  for (const std::string name : {"f", "a/in/f"}) expect_passed(name, "prefix");
}

TEST_F(FilterTest, ExcludeTakesOut) {
  mount({.options = {"exclude=a"}});
  for (const std::string name : {"f", "ab/f", "b/f"}) expect_locked(name);
  for (const std::string name : {"a/f", "a/in/deep/f"}) expect_passed(name, "exclude");
}

TEST_F(FilterTest, LongestMatchDecides) {
  mount({.options = {"prefix=a,exclude=a/in,prefix=a/in/deep"}});
  for (const std::string name : {"a/f", "a/in/deep/f"}) expect_locked(name);
  expect_passed("a/in/f", "exclude");
  expect_passed("b/f", "prefix");
}

TEST_F(FilterTest, PrefixThroughASymlinkIsResolved) {
  const std::string link = tree() / "link";
  ASSERT_EQ(::symlink(source().c_str(), link.c_str()), 0);
  ASSERT_EQ(::symlink("a", source("alias").c_str()), 0);
  mount({.options = {"prefix=" + link + "/alias/in"}});
  expect_locked("a/in/f");
  expect_passed("a/f", "prefix");
  // Whatever name the client uses: the file is what it is.
  Opener opener(mnt("alias/in/f"), O_RDWR);
  ASSERT_TRUE(opener.opens());
  EXPECT_EQ(source_lock(source("a/in/f")), LockSeen::kExclusive);
  opener.close();
}

TEST_F(FilterTest, RulesFollowAFileThatIsMoved) {
  mount({.options = {"prefix=a"}});
  expect_locked("a/f");
  EXPECT_TRUE(in_child([&] {
    EXPECT_EQ(::rename(mnt("a/f").c_str(), mnt("b/moved").c_str()), 0);
    EXPECT_EQ(::rename(mnt("b/f").c_str(), mnt("a/came").c_str()), 0);
  }));
  expect_passed("b/moved", "prefix");
  expect_locked("a/came");
}

TEST_F(FilterTest, RulesFollowADirectoryThatIsMoved) {
  mount({.options = {"prefix=a"}});
  expect_locked("a/in/deep/f");
  EXPECT_TRUE(in_child([&] { EXPECT_EQ(::rename(mnt("a/in").c_str(), mnt("b/in").c_str()), 0); }));
  expect_passed("b/in/deep/f", "prefix");
}

// The kernel opens inodes, not names: whichever names it has been shown, the selected one must not be passed.
TEST_F(FilterTest, FileWithANameThatIsSelectedIsLockedThroughThatName) {
  ASSERT_EQ(::link(source("a/f").c_str(), source("b/link").c_str()), 0);
  mount({.options = {"prefix=a", "entry_timeout=3600"}});
  EXPECT_TRUE(in_child([&] { EXPECT_EQ(stat_of(mnt("b/link")).st_nlink, 2u); }));
  expect_locked("a/f");
  EXPECT_TRUE(in_child([&] { EXPECT_EQ(read_file(mnt("b/link")), "contents"); }));
  expect_locked("a/f");
}

TEST_F(FilterTest, CreatedFilesFollowTheRules) {
  mount({.options = {"prefix=a"}});
  Opener in(mnt("a/new"), O_RDWR | O_CREAT);
  Opener out(mnt("b/new"), O_RDWR | O_CREAT);
  ASSERT_TRUE(in.opens());
  ASSERT_TRUE(out.opens());
  EXPECT_EQ(source_lock(source("a/new")), LockSeen::kExclusive);
  EXPECT_EQ(source_lock(source("b/new")), LockSeen::kFree);
  in.close();
  out.close();
}

TEST_F(FilterTest, PassedFilesAreTruncatedFreshAndWritable) {
  mount({.options = {"prefix=a", "attr_timeout=3600"}});
  const ForeignLock foreign(source("b/f"), LOCK_EX);
  EXPECT_TRUE(in_child([&] {
    EXPECT_EQ(read_file(mnt("b/f")), "contents");
    append_file(source("b/f"), " and more");
    EXPECT_EQ(read_file(mnt("b/f")), "contents and more");
    EXPECT_EQ(::truncate(mnt("b/f").c_str(), 3), 0);
    EXPECT_EQ(read_file(mnt("b/f")), "con");
    write_file(mnt("b/f"), "new");
  }));
  EXPECT_EQ(read_file(source("b/f")), "new");
}

TEST_F(FilterTest, CommaAndBlankInAPathAreEscaped) {
  make_dir(source("x, y"));
  write_file(source("x, y/f"), "contents");
  mount({.options = {"prefix=" + source("x\\, y") + ",attr_timeout=1"}});
  expect_locked("x, y/f");
  expect_passed("f", "prefix");
}

TEST_F(FilterTest, PathOutsideTheSourceIsAnError) {
  const std::string outside = folder("outside");
  const auto result = run_program({flockfs_program(), "-f", "-o", "prefix=" + outside, source(), mnt()});
  EXPECT_TRUE(result.exit_code == 1 || result.exit_code == 2) << result;
  EXPECT_NE(result.err.find("prefix"), std::string::npos) << result;
  EXPECT_NE(result.err.find(outside), std::string::npos) << result;
}

}  // namespace
}  // namespace flockfs::test
