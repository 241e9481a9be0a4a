// DESIGN 4.9: an ordinary user mounts in a user and mount namespace of its own, without any help from root.

#include <fcntl.h>
#include <sys/file.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <functional>
#include <string>

#include "harness/faults.h"
#include "harness/mirror_test.h"
#include "harness/users.h"

namespace flockfs::test {
namespace {

class UserNamespaceTest : public PassthroughTest {
 protected:
  void SetUp() override {
    write_file(source("f"), "contents");
    write_file(source("roots"), "of root");
    ASSERT_EQ(::chmod(source("roots").c_str(), 0666), 0);
    for (const std::string& path : {source(), source("f"), mnt(), tree() / "scratch"}) {
      ASSERT_EQ(::chown(path.c_str(), kStranger, kStrangerGroup), 0);
    }
    const bool can = static_cast<bool>(in_child([] {
      become_user();
      enter_own_namespaces();
      ASSERT_EQ(::mount("tmpfs", "/mnt", "tmpfs", 0, nullptr), 0);
    }));
    if (!can) GTEST_SKIP() << "this system does not let users do that";
  }

  // Runs it as the user, in namespaces of its own where the mirror is mounted.
  [[nodiscard]] ::testing::AssertionResult in_own_mirror(const std::function<void()>& body) {
    return in_child(
        [&] {
          cover_dev(FuseDevice::kForAll);
          become_user();
          enter_own_namespaces();
          mount();
          body();
          unmount();
        },
        kPatience * 6);
  }
};
INSTANTIATE_TEST_SUITE_P(Mount, UserNamespaceTest, BothPassthroughs(), passthrough_name);

TEST_P(UserNamespaceTest, OpensLockAndWait) {
  EXPECT_TRUE(in_own_mirror([&] {
    for (const int flags : {O_RDONLY, O_RDWR}) {
      ForeignLock foreign(source("f"), LOCK_EX);
      Opener opener(mnt("f"), flags);
      ASSERT_TRUE(mirror().waits(opener.pid()));
      EXPECT_TRUE(opener.is_waiting());
      foreign.release();
      ASSERT_TRUE(opener.opens());
      EXPECT_EQ(opener.contents(), "contents");
      EXPECT_EQ(source_lock(source("f")), flags == O_RDONLY ? LockSeen::kShared : LockSeen::kExclusive);
      opener.close();
      EXPECT_TRUE(becomes_free(source("f")));
    }
  }));
}

TEST_P(UserNamespaceTest, FilesAreMadeChangedAndRemoved) {
  EXPECT_TRUE(in_own_mirror([&] {
    EXPECT_TRUE(in_child([&] {
      write_file(mnt("new"), "new");
      append_file(mnt("new"), " text");
      EXPECT_EQ(read_file(mnt("new")), "new text");
      make_dir(mnt("d"));
      EXPECT_EQ(::rename(mnt("new").c_str(), mnt("d/renamed").c_str()), 0);
      EXPECT_EQ(::unlink(mnt("f").c_str()), 0);
    }));
  }));
  EXPECT_EQ(list_dir(source()), (std::vector<std::string>{"d", "roots"}));
  EXPECT_EQ(read_file(source("d/renamed")), "new text");
  EXPECT_EQ(stat_of(source("d/renamed")).st_uid, kStranger);
  EXPECT_EQ(stat_of(source("d/renamed")).st_gid, kStrangerGroup);
}

// The kernel lets nobody write what belongs to somebody whom the namespace does not know.
TEST_P(UserNamespaceTest, FilesOfOthersAreReadAndNotWritten) {
  EXPECT_TRUE(in_own_mirror([&] {
    EXPECT_TRUE(in_child([&] {
      EXPECT_EQ(stat_of(mnt("roots")).st_uid, 65534u);
      EXPECT_EQ(read_file(mnt("roots")), "of root");
      EXPECT_EQ(open_error(mnt("roots"), O_RDWR), EACCES);
    }));
  }));
  EXPECT_EQ(read_file(source("roots")), "of root");
}

}  // namespace
}  // namespace flockfs::test
