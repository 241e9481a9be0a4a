// Issue 2, deliverable 1: every ordinary operation on names and directories. (DESIGN 4.8 for the inode numbers.)

#include <dirent.h>
#include <fcntl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "harness/file_systems.h"
#include "harness/mirror_test.h"

namespace flockfs::test {
namespace {

class TreeOperationsTest : public PassthroughTest {
 protected:
  int rename_error(const std::string& from, const std::string& to, unsigned flags) {
    return ::renameat2(AT_FDCWD, mnt(from).c_str(), AT_FDCWD, mnt(to).c_str(), flags) == 0 ? 0 : errno;
  }
};
INSTANTIATE_TEST_SUITE_P(Mount, TreeOperationsTest, BothPassthroughs(), passthrough_name);

TEST_P(TreeOperationsTest, DirectoriesAreMadeAndRemoved) {
  mount();
  EXPECT_TRUE(in_child([&] {
    EXPECT_EQ(::mkdir(mnt("d").c_str(), 0750), 0);
    EXPECT_EQ(::mkdir(mnt("d").c_str(), 0750), -1);
    EXPECT_EQ(errno, EEXIST);
    write_file(mnt("d/f"), "x");
    EXPECT_EQ(::rmdir(mnt("d").c_str()), -1);
    EXPECT_EQ(errno, ENOTEMPTY);
    EXPECT_EQ(stat_of(source("d")).st_mode, S_IFDIR | 0750u);
    EXPECT_EQ(stat_of(mnt()).st_nlink, 3u);
    EXPECT_EQ(::unlink(mnt("d/f").c_str()), 0);
    EXPECT_EQ(::rmdir(mnt("d").c_str()), 0);
    EXPECT_EQ(::rmdir(mnt("d").c_str()), -1);
    EXPECT_EQ(errno, ENOENT);
  }));
  EXPECT_FALSE(exists(source("d")));
}

TEST_P(TreeOperationsTest, RenameHonoursItsFlags) {
  write_file(source("a"), "a");
  write_file(source("b"), "b");
  mount();
  EXPECT_TRUE(in_child([&] {
    EXPECT_EQ(rename_error("a", "b", RENAME_NOREPLACE), EEXIST);
    EXPECT_EQ(rename_error("a", "c", RENAME_NOREPLACE), 0);
    EXPECT_EQ(rename_error("c", "b", RENAME_EXCHANGE), 0);
    EXPECT_EQ(read_file(mnt("b")), "a");
    EXPECT_EQ(read_file(mnt("c")), "b");
    EXPECT_EQ(rename_error("b", "missing", RENAME_EXCHANGE), ENOENT);
    EXPECT_EQ(rename_error("b", "c", 0), 0);
    EXPECT_EQ(rename_error("c", "d", RENAME_WHITEOUT), 0);
    EXPECT_TRUE(S_ISCHR(stat_of(mnt("c")).st_mode));
  }));
  EXPECT_EQ(read_file(source("d")), "a");
  EXPECT_EQ(stat_of(source("c")).st_rdev, makedev(0, 0));
}

TEST_P(TreeOperationsTest, RenameAcrossDirectoriesAndOfDirectories) {
  make_dir(source("one"));
  make_dir(source("two"));
  make_dir(source("one/sub"));
  write_file(source("one/sub/f"), "contents");
  mount();
  EXPECT_TRUE(in_child([&] {
    const UniqueFd open_before = open_file(mnt("one/sub/f"), O_RDONLY);
    EXPECT_EQ(rename_error("one/sub", "two/moved", 0), 0);
    EXPECT_EQ(read_file(mnt("two/moved/f")), "contents");
    EXPECT_EQ(read_all(open_before.get()), "contents");
    EXPECT_EQ(rename_error("two", "two/moved/in", 0), EINVAL);
    write_file(mnt("two/moved/g"), "new");
    EXPECT_EQ(rename_error("two/moved/g", "one/g", 0), 0);
    EXPECT_EQ(rename_error("one/g", "two/moved", 0), EISDIR);
    EXPECT_EQ(rename_error("two/moved", "one", 0), ENOTEMPTY);
  }));
  EXPECT_EQ(read_file(source("two/moved/f")), "contents");
  EXPECT_EQ(read_file(source("one/g")), "new");
}

// The log names a file by where it is now, not by where it was first seen.
TEST_P(TreeOperationsTest, PathFollowsRenamesOfItsDirectories) {
  make_dir(source("one"));
  make_dir(source("one/sub"));
  write_file(source("one/sub/f"), "contents");
  mount();
  EXPECT_TRUE(in_child([&] {
    EXPECT_EQ(read_file(mnt("one/sub/f")), "contents");
    EXPECT_EQ(rename_error("one", "renamed", 0), 0);
    EXPECT_EQ(read_file(mnt("renamed/sub/f")), "contents");
  }));
  EXPECT_TRUE(log().wait_for({.event = "lock", .path = source("renamed/sub/f")})) << log().text();
}

TEST_P(TreeOperationsTest, HardLinksAreOneFile) {
  write_file(source("f"), "contents");
  mount();
  EXPECT_TRUE(in_child([&] {
    EXPECT_EQ(::link(mnt("f").c_str(), mnt("g").c_str()), 0);
    EXPECT_EQ(::link(mnt("f").c_str(), mnt("g").c_str()), -1);
    EXPECT_EQ(errno, EEXIST);
    EXPECT_EQ(stat_of(mnt("f")).st_ino, stat_of(mnt("g")).st_ino);
    EXPECT_EQ(stat_of(mnt("f")).st_nlink, 2u);
    EXPECT_EQ(::unlink(mnt("f").c_str()), 0);
    EXPECT_EQ(read_file(mnt("g")), "contents");
    EXPECT_EQ(stat_of(mnt("g")).st_nlink, 1u);
  }));
}

TEST_P(TreeOperationsTest, SymlinksKeepTheirTargets) {
  const std::string target(3000, 't');
  mount();
  EXPECT_TRUE(in_child([&] {
    EXPECT_EQ(::symlink(target.c_str(), mnt("long").c_str()), 0);
    EXPECT_EQ(::symlink("../dangling", mnt("dangling").c_str()), 0);
    std::string buffer(4096, '\0');
    EXPECT_EQ(::readlink(mnt("long").c_str(), buffer.data(), buffer.size()), 3000);
    EXPECT_EQ(buffer.substr(0, 3000), target);
    EXPECT_EQ(stat_of(mnt("dangling")).st_size, 11);
    EXPECT_EQ(open_error(mnt("dangling"), O_RDONLY), ENOENT);
    EXPECT_EQ(::lchown(mnt("dangling").c_str(), 5, 6), 0);
  }));
  EXPECT_EQ(stat_of(source("dangling")).st_uid, 5u);
}

TEST_P(TreeOperationsTest, NodesOfAllTypesAreMade) {
  mount();
  EXPECT_TRUE(in_child([&] {
    EXPECT_EQ(::mknod(mnt("fifo").c_str(), S_IFIFO | 0640, 0), 0);
    EXPECT_EQ(::mknod(mnt("socket").c_str(), S_IFSOCK | 0640, 0), 0);
    EXPECT_EQ(::mknod(mnt("char").c_str(), S_IFCHR | 0640, makedev(4, 1)), 0);
    EXPECT_EQ(::mknod(mnt("block").c_str(), S_IFBLK | 0640, makedev(7, 3)), 0);
    EXPECT_EQ(::mknod(mnt("file").c_str(), S_IFREG | 0640, 0), 0);
  }));
  EXPECT_EQ(stat_of(source("fifo")).st_mode, S_IFIFO | 0640u);
  EXPECT_EQ(stat_of(source("socket")).st_mode, S_IFSOCK | 0640u);
  EXPECT_EQ(stat_of(source("char")).st_rdev, makedev(4, 1));
  EXPECT_EQ(stat_of(source("block")).st_rdev, makedev(7, 3));
  EXPECT_EQ(stat_of(source("file")).st_mode, S_IFREG | 0640u);
}

TEST_P(TreeOperationsTest, TemporaryFileGetsAName) {
  make_dir(source("d"));
  mount();
  EXPECT_TRUE(in_child([&] {
    const UniqueFd fd = open_file(mnt("d"), O_TMPFILE | O_RDWR, 0640);
    EXPECT_EQ(::write(fd.get(), "text", 4), 4);
    EXPECT_TRUE(list_dir(mnt("d")).empty());
    EXPECT_EQ(::linkat(fd.get(), "", AT_FDCWD, mnt("d/named").c_str(), AT_EMPTY_PATH), 0) << errno_name(errno);
    const UniqueFd never = open_file(mnt("d"), O_TMPFILE | O_WRONLY | O_EXCL, 0640);
    const std::string self = "/proc/self/fd/" + std::to_string(never.get());
    EXPECT_EQ(::linkat(AT_FDCWD, self.c_str(), AT_FDCWD, mnt("d/never").c_str(), AT_SYMLINK_FOLLOW), -1);
  }));
  EXPECT_EQ(read_file(source("d/named")), "text");
  EXPECT_EQ(stat_of(source("d/named")).st_mode, S_IFREG | 0640u);
  EXPECT_EQ(list_dir(source("d")).size(), 1u);
}

TEST_P(TreeOperationsTest, StatfsShowsTheSource) {
  mount();
  EXPECT_TRUE(in_child([&] {
    struct statvfs mirror_status {};
    struct statvfs source_status {};
    EXPECT_EQ(::statvfs(mnt().c_str(), &mirror_status), 0);
    EXPECT_EQ(::statvfs(source().c_str(), &source_status), 0);
    EXPECT_EQ(mirror_status.f_blocks * mirror_status.f_frsize, source_status.f_blocks * source_status.f_frsize);
    EXPECT_EQ(mirror_status.f_files, source_status.f_files);
    EXPECT_EQ(mirror_status.f_namemax, source_status.f_namemax);
  }));
}

TEST_P(TreeOperationsTest, AwkwardNamesWork) {
  const std::vector<std::string> names{
      std::string(255, 'n'), "\xff\xfe not UTF-8", "new\nline", "quo\"te'", "-dash", " blank ",
      "back\\slash",         "\xc3\xbc",           "...",       "a,b=c"};
  mount();
  EXPECT_TRUE(in_child([&] {
    for (const std::string& name : names) {
      write_file(mnt(name), name);
      EXPECT_EQ(read_file(mnt(name)), name);
      EXPECT_EQ(read_file(source(name)), name);
    }
    EXPECT_EQ(list_dir(mnt()), list_dir(source()));
    EXPECT_EQ(list_dir(mnt()).size(), names.size());
    EXPECT_EQ(open_error(mnt(std::string(256, 'n')), O_RDWR | O_CREAT), ENAMETOOLONG);
    for (const std::string& name : names) EXPECT_EQ(::unlink(mnt(name).c_str()), 0);
  }));
  EXPECT_TRUE(list_dir(source()).empty());
}

TEST_P(TreeOperationsTest, DeepTreesWork) {
  std::string path;
  for (int i = 0; i < 60; ++i) path += "/directory" + std::to_string(i);
  mount();
  EXPECT_TRUE(in_child([&] {
    for (std::size_t end = path.find('/', 1); end != std::string::npos; end = path.find('/', end + 1)) {
      ASSERT_EQ(::mkdir((mnt() + path.substr(0, end)).c_str(), 0755), 0);
    }
    ASSERT_EQ(::mkdir((mnt() + path).c_str(), 0755), 0);
    write_file(mnt() + path + "/f", "deep");
  }));
  EXPECT_EQ(read_file(source() + path + "/f"), "deep");
  EXPECT_TRUE(log().wait_for({.event = "lock", .path = source() + path + "/f"}));
}

TEST_P(TreeOperationsTest, AttributesAreThoseOfTheSource) {
  write_file(source("file"), "contents");
  make_dir(source("dir"), 01777);
  ASSERT_EQ(::mkfifo(source("fifo").c_str(), 0600), 0);
  ASSERT_EQ(::symlink("file", source("link").c_str()), 0);
  mount();
  EXPECT_TRUE(in_child([&] {
    for (const std::string& name :
         {std::string(), std::string("file"), std::string("dir"), std::string("fifo"), std::string("link")}) {
      SCOPED_TRACE(name);
      const struct stat one = stat_of(mnt(name));
      const struct stat other = stat_of(source(name));
      EXPECT_EQ(one.st_ino, other.st_ino);
      EXPECT_EQ(one.st_mode, other.st_mode);
      EXPECT_EQ(one.st_nlink, other.st_nlink);
      EXPECT_EQ(one.st_size, other.st_size);
      EXPECT_EQ(one.st_blocks, other.st_blocks);
      EXPECT_EQ(one.st_mtim.tv_nsec, other.st_mtim.tv_nsec);
      EXPECT_EQ(one.st_ctim.tv_nsec, other.st_ctim.tv_nsec);
    }
  }));
}

// A file system mounted below SOURCE is shown; the mirror has one st_dev, so its inode numbers must not collide.
TEST_P(TreeOperationsTest, FileSystemBelowTheSourceIsShownWithInodeNumbersOfItsOwn) {
  make_dir(source("one"));
  make_dir(source("two"));
  ASSERT_EQ(mount_tmpfs(source("one")), 0);
  ASSERT_EQ(mount_tmpfs(source("two")), 0);
  write_file(source("one/f"), "one");
  write_file(source("two/f"), "two");
  ASSERT_EQ(stat_of(source("one/f")).st_ino, stat_of(source("two/f")).st_ino) << "two tmpfs start alike";
  mount();
  EXPECT_TRUE(in_child([&] {
    EXPECT_EQ(read_file(mnt("one/f")), "one");
    EXPECT_EQ(read_file(mnt("two/f")), "two");
    EXPECT_NE(stat_of(mnt("one/f")).st_ino, stat_of(mnt("two/f")).st_ino);
    EXPECT_EQ(rename_error("one/f", "two/g", 0), EXDEV);
    EXPECT_EQ(::link(mnt("one/f").c_str(), mnt("two/g").c_str()), -1);
    EXPECT_EQ(errno, EXDEV);
    write_file(mnt("one/new"), "new");
  }));
  EXPECT_EQ(read_file(source("one/new")), "new");
  EXPECT_TRUE(log().wait_for({.event = "lock", .path = source("two/f")}));
  Opener opener(mnt("two/f"), O_RDWR);
  ASSERT_TRUE(opener.opens());
  EXPECT_EQ(source_lock(source("two/f")), LockSeen::kExclusive);
  opener.close();
}

}  // namespace
}  // namespace flockfs::test
