// What lsattr(1), chattr(1) and statx(2) know of a file beyond stat(2), and file systems below the source.

#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <string>

#include "harness/mirror_test.h"
#include "harness/program.h"
#include "harness/users.h"
#include "harness/watcher.h"

namespace flockfs::test {
namespace {

// -errno, or the flags.
int flags_of(const std::string& path) {
  const UniqueFd fd = open_file(path, O_RDONLY);
  int flags = 0;
  return ::ioctl(fd.get(), FS_IOC_GETFLAGS, &flags) == 0 ? flags : -errno;
}

int set_flags(int fd, int flags) { return ::ioctl(fd, FS_IOC_SETFLAGS, &flags) == 0 ? 0 : errno; }

class InodeAttributesTest : public PassthroughTest {
 protected:
  void SetUp() override {
    write_file(source("f"), "contents");
    make_dir(source("d"));
    if (flags_of(source("f")) < 0) GTEST_SKIP() << "this file system has no such flags";
    mount();
  }
};
INSTANTIATE_TEST_SUITE_P(Mount, InodeAttributesTest, BothPassthroughs(), passthrough_name);

TEST_P(InodeAttributesTest, FlagsOfFilesAndDirectoriesAreTheSources) {
  EXPECT_TRUE(in_child([&] {
    for (const std::string name : {"f", "d"}) {
      EXPECT_EQ(flags_of(mnt(name)), flags_of(source(name)));
      const UniqueFd fd = open_file(mnt(name), O_RDONLY);
      EXPECT_EQ(set_flags(fd.get(), flags_of(mnt(name)) | FS_NOATIME_FL), 0);
      EXPECT_TRUE((flags_of(source(name)) & FS_NOATIME_FL) != 0);
      EXPECT_EQ(flags_of(mnt(name)), flags_of(source(name)));
    }
    fsxattr attributes{};
    const UniqueFd fd = open_file(mnt("f"), O_RDONLY);
    EXPECT_EQ(::ioctl(fd.get(), FS_IOC_FSGETXATTR, &attributes), 0);
    EXPECT_TRUE((attributes.fsx_xflags & FS_XFLAG_NOATIME) != 0);
    attributes.fsx_xflags &= ~static_cast<unsigned>(FS_XFLAG_NOATIME);
    EXPECT_EQ(::ioctl(fd.get(), FS_IOC_FSSETXATTR, &attributes), 0);
    EXPECT_FALSE((flags_of(source("f")) & FS_NOATIME_FL) != 0);
  }));
}

// The kernel opens the file once more for it, under the inode's lock: an open that waited would hang the holder.
TEST_P(InodeAttributesTest, FlagsAreSetAndReadWhileOthersHoldTheLock) {
  Child writer([&](Peer& test) {
    const UniqueFd fd = open_file(mnt("f"), O_RDWR);
    test.say("open");
    test.await("write");
    EXPECT_EQ(::pwrite(fd.get(), "C", 1, 0), 1);
    int flags = 0;
    EXPECT_EQ(::ioctl(fd.get(), FS_IOC_GETFLAGS, &flags), 0);
    EXPECT_EQ(set_flags(fd.get(), flags | FS_NODUMP_FL), 0);
    test.say("written");
  });
  ASSERT_TRUE(writer.says("open"));
  const auto listed = run_program({"lsattr", mnt("d"), "-d"});
  EXPECT_EQ(listed.exit_code, 0) << listed;
  writer.say("write");
  ASSERT_TRUE(writer.says("written"));
  EXPECT_TRUE(writer.ends_well());
  EXPECT_TRUE((flags_of(source("f")) & FS_NODUMP_FL) != 0);
}

TEST_P(InodeAttributesTest, StrangersAndMembersGetTheAnswersOfTheSource) {
  EXPECT_TRUE(in_child([&] {
    become_user();
    for (const std::string path : {source("f"), mnt("f")}) {
      const UniqueFd fd = open_file(path, O_RDONLY);
      EXPECT_EQ(set_flags(fd.get(), FS_NODUMP_FL), EPERM) << path;
    }
  }));
}

TEST_P(InodeAttributesTest, BirthTimeIsTheSources) {
  EXPECT_TRUE(in_child([&] {
    for (const std::string name : {"f", "d"}) {
      struct statx native {};
      struct statx mirrored {};
      ASSERT_EQ(::statx(AT_FDCWD, source(name).c_str(), 0, STATX_ALL, &native), 0);
      ASSERT_EQ(::statx(AT_FDCWD, mnt(name).c_str(), 0, STATX_ALL, &mirrored), 0);
      if ((mirrored.stx_mask & STATX_BTIME) == 0) GTEST_SKIP() << "this kernel asks FUSE for no birth time (6.6 does)";
      EXPECT_EQ(mirrored.stx_btime.tv_sec, native.stx_btime.tv_sec);
      EXPECT_EQ(mirrored.stx_btime.tv_nsec, native.stx_btime.tv_nsec);
      EXPECT_EQ(mirrored.stx_ino, native.stx_ino);
      EXPECT_EQ(mirrored.stx_size, native.stx_size);
      EXPECT_EQ(mirrored.stx_mtime.tv_nsec, native.stx_mtime.tv_nsec);
    }
  }));
}

TEST_P(InodeAttributesTest, ChownToNobodyInParticularDropsSetIdBits) {
  EXPECT_TRUE(in_child([&] {
    for (const std::string& path : {source("f"), mnt("f")}) {
      EXPECT_EQ(::chmod(path.c_str(), 06755), 0);
      EXPECT_EQ(::chown(path.c_str(), static_cast<uid_t>(-1), static_cast<gid_t>(-1)), 0);
      EXPECT_EQ(stat_of(source("f")).st_mode & 07777, 0755u) << path;
    }
  }));
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

// No handle finds a file again on overlayfs: its descriptors are bounded, and what is in use stays within reach.
class FewDescriptorsTest : public MirrorTest {
 protected:
  static constexpr int kFiles = 1200;
  void SetUp() override {
    for (const std::string name : {"lower", "upper", "work"}) make_dir(tree() / name);
    make_dir(tree() / "lower/many");
    for (int i = 0; i < kFiles; ++i) write_file(tree() / ("lower/many/f" + std::to_string(i)), std::to_string(i));
    const std::string options =
        "lowerdir=" + (tree() / "lower") + ",upperdir=" + (tree() / "upper") + ",workdir=" + (tree() / "work");
    ASSERT_EQ(::mount("overlay", source().c_str(), "overlay", 0, options.c_str()), 0) << errno_name(errno);
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
