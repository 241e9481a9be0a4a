// What lsattr(1), chattr(1) and statx(2) know of a file beyond stat(2).

#include <fcntl.h>
#include <linux/fs.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <string>

#include "harness/mirror_test.h"
#include "harness/program.h"
#include "harness/users.h"

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

#ifdef __x86_64__
// open(2) as a 32-bit program calls it: without O_LARGEFILE, as the kernel's own opens are. The path lies where 32 bits
// reach it. -errno, or the descriptor.
int open_by_32_bits(const std::string& path) {
  void* const low = ::mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);
  if (low == MAP_FAILED || path.size() >= 4096) return -ENOMEM;
  std::memcpy(low, path.c_str(), path.size() + 1);
  long result = 5;  // open, O_RDONLY
  __asm__ volatile("int $0x80" : "+a"(result) : "b"(low), "c"(0), "d"(0) : "memory", "r8", "r9", "r10", "r11");
  return static_cast<int>(result);
}

// It is a client's open, and waits.
TEST_P(InodeAttributesTest, OpenOfA32BitProgramWaitsForItsLock) {
  Child probe([&](Peer& test) { test.say(open_by_32_bits(source("f")) >= 0 ? "known" : "unknown"); });
  if (probe.hear() != "known") GTEST_SKIP() << "this kernel runs no 32-bit programs";
  ForeignLock foreign(source("f"), LOCK_EX);
  Child client([&](Peer& test) {
    const int fd = open_by_32_bits(mnt("f"));
    EXPECT_GE(fd, 0) << errno_name(-fd);
    test.say("open");
    test.await("end");
  });
  ASSERT_TRUE(mirror().waits(client.pid()));
  EXPECT_TRUE(client.silent());
  foreign.release();
  ASSERT_TRUE(client.says("open"));
  EXPECT_EQ(source_lock(source("f")), LockSeen::kShared);
  client.say("end");
  EXPECT_TRUE(client.ends_well());
}
#endif

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

}  // namespace
}  // namespace flockfs::test
