// DESIGN 1.8: file systems without locks.

#include <fcntl.h>
#include <sys/mount.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <stdexcept>
#include <string>

#include "harness/faults.h"
#include "harness/file_systems.h"
#include "harness/lockless_fs.h"
#include "harness/mirror_test.h"

namespace flockfs::test {
namespace {

class UnsupportedTest : public PassthroughTest {
 protected:
  static MirrorSetup without_flock(std::vector<std::string> options) {
    MirrorSetup setup{.options = std::move(options)};
    setup.program.before_exec = [] { make_call_fail(SYS_flock, ENOLCK); };
    return setup;
  }
  // What the refusal to mount says.
  std::string refusal(const MirrorSetup& setup) {
    try {
      mount(setup);
    } catch (const std::runtime_error& refused) {
      return refused.what();
    }
    return {};
  }
};
INSTANTIATE_TEST_SUITE_P(Mount, UnsupportedTest, BothPassthroughs(), passthrough_name);

TEST_P(UnsupportedTest, SourceWithoutLocksIsRefusedAtMountTime) {
  const std::string said = refusal(without_flock({}));
  for (const std::string& word : {source(), std::string("on_unsupported"), std::string("No locks available")}) {
    EXPECT_NE(said.find(word), std::string::npos) << word << "\n" << said;
  }
  EXPECT_TRUE(list_dir(source()).empty());
}

// Where no file can be made for the question, one that is there is asked.
TEST_P(UnsupportedTest, ReadOnlySourceWithoutLocksIsRefusedToo) {
  write_file(source("f"), "contents");
  EXPECT_NE(refusal(without_flock({"ro"})).find("No locks available"), std::string::npos);
}

TEST_P(UnsupportedTest, UnlockedMountsItAndSaysSoForEachOpen) {
  write_file(source("f"), "contents");
  mount(without_flock({"on_unsupported=unlocked"}));
  EXPECT_TRUE(log().wait_for({.event = "unsupported"})) << log().text();
  EXPECT_TRUE(in_child([&] {
    EXPECT_EQ(read_file(mnt("f")), "contents");
    EXPECT_EQ(open_error(mnt("new"), O_RDWR | O_CREAT | O_EXCL), 0);
    EXPECT_EQ(open_error(mnt(), O_RDWR | O_TMPFILE), 0);
    EXPECT_EQ(::truncate(mnt("f").c_str(), 3), 0);
  }));
  EXPECT_EQ(read_file(source("f")), "con");
  EXPECT_TRUE(log().wait_for_count({.event = "unlocked", .path = source("f"), .reason = "unsupported"}, 2));
  EXPECT_TRUE(log().wait_for_count({.event = "unlocked", .path = source("new"), .reason = "unsupported"}, 1));
  EXPECT_EQ(log().count({.event = "lock"}), 0u);
}

// Each file system is asked by itself, when the first of its files is to be locked.
TEST_P(UnsupportedTest, FileSystemBelowIsNamedOnce) {
  write_file(source("f"), "contents");
  make_dir(source("sub"));
  ASSERT_EQ(mount_tmpfs(source("sub")), 0);
  write_file(source("sub/f"), "contents");
  mount(without_flock({"on_unsupported=unlocked"}));
  EXPECT_EQ(log().count({.event = "unsupported", .path = source("sub")}), 0u);
  EXPECT_TRUE(in_child([&] {
    EXPECT_EQ(read_file(mnt("sub/f")), "contents");
    EXPECT_EQ(open_error(mnt("sub/new"), O_RDWR | O_CREAT | O_EXCL), 0);
  }));
  const auto said = log().wait_for({.event = "unsupported", .path = source("sub")});
  ASSERT_TRUE(said) << log().text();
  EXPECT_EQ(said->get("reason"), "No locks available");
  EXPECT_TRUE(log().wait_for_count({.event = "unlocked", .reason = "unsupported"}, 2));
  EXPECT_EQ(log().count({.event = "unsupported", .path = source("sub")}), 1u);
  unmount();
  ::umount2(source("sub").c_str(), MNT_DETACH);
}

class SubmountTest : public UnsupportedTest {
 protected:
  void SetUp() override {
    write_file(source("f"), "contents");
    make_dir(source("sub"));
    lockless_.emplace(source("sub"));
  }

 private:
  std::optional<LocklessFs> lockless_;
};
INSTANTIATE_TEST_SUITE_P(Mount, SubmountTest, BothPassthroughs(), passthrough_name);

TEST_P(SubmountTest, WithoutLocksFailsAtItsOpensOnly) {
  mount();
  mirror().expect_error("source/sub/f");
  EXPECT_TRUE(in_child([&] {
    EXPECT_EQ(open_error(mnt("sub/f"), O_RDONLY), EOPNOTSUPP);
    EXPECT_EQ(read_file(mnt("f")), "contents");
  }));
  EXPECT_TRUE(log().wait_for({.event = "error", .path = source("sub/f")})) << log().text();
  EXPECT_TRUE(log().wait_for({.event = "lock", .path = source("f")})) << log().text();
}

TEST_P(SubmountTest, WithoutLocksIsOpenedUnlockedIfAsked) {
  mount({.options = {"on_unsupported=unlocked"}});
  EXPECT_TRUE(in_child([&] { EXPECT_EQ(read_file(mnt("sub/f")), "contents"); }));
  EXPECT_TRUE(log().wait_for({.event = "unlocked", .path = source("sub/f"), .reason = "unsupported"})) << log().text();
  EXPECT_EQ(log().count({.event = "unsupported"}), 0u) << "the file system of SOURCE has locks";
}

}  // namespace
}  // namespace flockfs::test
