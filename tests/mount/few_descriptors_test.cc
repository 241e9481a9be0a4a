// No handle finds a file again on overlayfs: its descriptors are bounded, and what is in use stays within reach.

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <string>

#include "harness/file_systems.h"
#include "harness/mirror_test.h"

namespace flockfs::test {
namespace {

class FewDescriptorsTest : public MirrorTest {
 protected:
  static constexpr int kFiles = 1200;
  void SetUp() override {
    const std::string lower = folder("lower");
    make_dir(lower + "/many");
    for (int i = 0; i < kFiles; ++i) write_file(lower + "/many/f" + std::to_string(i), std::to_string(i));
    ASSERT_EQ(mount_overlay(lower, folder("upper"), folder("work"), source()), 0);
    mount({.options = {"attr_timeout=3600", "entry_timeout=3600"}});
  }
  void look_at_all() const {
    for (int i = 0; i < kFiles; ++i) (void)stat_of(mnt("many/f" + std::to_string(i)));
  }
};

TEST_F(FewDescriptorsTest, ManyFilesAreKnownAndReadWithFewDescriptors) {
  EXPECT_TRUE(in_child([&] { look_at_all(); }));
  EXPECT_LT(mirror().descriptors(), 512);
  EXPECT_TRUE(in_child([&] {
    for (int i = 0; i < kFiles; ++i) EXPECT_EQ(read_file(mnt("many/f" + std::to_string(i))), std::to_string(i));
  }));
  EXPECT_LT(mirror().descriptors(), 512);
}

TEST_F(FewDescriptorsTest, DeletedFileAndDirectoryThatAreInUseStayUsable) {
  write_file(source("open"), "contents");
  make_dir(source("dir"));
  EXPECT_TRUE(in_child([&] {
    const UniqueFd fd = open_file(mnt("open"), O_RDWR);
    ASSERT_EQ(::chdir(mnt("dir").c_str()), 0);
    EXPECT_EQ(::unlink(mnt("open").c_str()), 0);
    EXPECT_EQ(::rmdir(mnt("dir").c_str()), 0);
    look_at_all();
    EXPECT_EQ(::fchmod(fd.get(), 0600), 0) << errno_name(errno);
    struct stat status {};
    EXPECT_EQ(::fstat(fd.get(), &status), 0) << errno_name(errno);
    EXPECT_EQ(status.st_mode & 07777, 0600u);
    EXPECT_EQ(::fchmod(open_file(".", O_RDONLY | O_DIRECTORY).get(), 0700), 0) << errno_name(errno);
  }));
}

TEST_F(FewDescriptorsTest, FileThatTheSourceRenamedIsNeverTakenForAnother) {
  EXPECT_TRUE(in_child([&] {
    const UniqueFd fd(::open(mnt("many/f1").c_str(), O_PATH | O_CLOEXEC));
    look_at_all();
    ASSERT_EQ(::rename(source("many/f1").c_str(), source("many/renamed").c_str()), 0);
    write_file(source("many/f1"), "another file");
    EXPECT_EQ(open_error("/proc/self/fd/" + std::to_string(fd.get()), O_RDONLY), ESTALE);
    EXPECT_EQ(read_file(mnt("many/f1")), "another file");
    EXPECT_EQ(read_file(mnt("many/renamed")), "1");
  }));
}

}  // namespace
}  // namespace flockfs::test
