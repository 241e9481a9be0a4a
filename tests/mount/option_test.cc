// DESIGN 2: the options of this mount, as far as they have no test of their own theme.

#include <fcntl.h>
#include <sys/file.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/time.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <string>

#include "harness/connection.h"
#include "harness/crowd.h"
#include "harness/mirror_test.h"
#include "harness/program.h"

namespace flockfs::test {
namespace {

class OptionTest : public PassthroughTest {
 protected:
  void SetUp() override { write_file(source("f"), "contents"); }
};
INSTANTIATE_TEST_SUITE_P(Mount, OptionTest, BothPassthroughs(), passthrough_name);

bool has_word(const std::string& list, const std::string& word) {
  return ("," + list + ",").find("," + word + ",") != std::string::npos;
}

TEST_P(OptionTest, ReadOnlyRefusesEveryChange) {
  make_dir(source("d"));
  mount({.options = {"ro"}});
  EXPECT_TRUE(in_child([&] {
    EXPECT_EQ(read_file(mnt("f")), "contents");
    EXPECT_EQ(open_error(mnt("f"), O_RDWR), EROFS);
    EXPECT_EQ(open_error(mnt("new"), O_WRONLY | O_CREAT), EROFS);
    const auto error = [](int result) { return result == 0 ? 0 : errno; };
    EXPECT_EQ(error(::unlink(mnt("f").c_str())), EROFS);
    EXPECT_EQ(error(::mkdir(mnt("new").c_str(), 0755)), EROFS);
    EXPECT_EQ(error(::rename(mnt("f").c_str(), mnt("g").c_str())), EROFS);
    EXPECT_EQ(error(::chmod(mnt("f").c_str(), 0600)), EROFS);
    EXPECT_EQ(error(::truncate(mnt("f").c_str(), 1)), EROFS);
    EXPECT_EQ(error(::rmdir(mnt("d").c_str())), EROFS);
  }));
  EXPECT_TRUE(has_word(find_mount(mnt())->mount_options, "ro"));
  Opener reader(mnt("f"), O_RDONLY);
  ASSERT_TRUE(reader.opens());
  EXPECT_EQ(source_lock(source("f")), LockSeen::kShared);
  reader.close();
}

// "enforced below the daemon too": the mount flag can be taken off again, the source stays untouched.
TEST_P(OptionTest, ReadOnlyHoldsBelowTheMountFlag) {
  mount({.options = {"ro"}});
  ASSERT_EQ(::mount(nullptr, mnt().c_str(), nullptr, MS_REMOUNT | MS_BIND, nullptr), 0);
  EXPECT_TRUE(in_child([&] {
    EXPECT_EQ(open_error(mnt("f"), O_WRONLY), EROFS);
    EXPECT_NE(open_error(mnt("new"), O_WRONLY | O_CREAT), 0);
    EXPECT_NE(::unlink(mnt("f").c_str()), 0);
  }));
  EXPECT_EQ(list_dir(source()), std::vector<std::string>{"f"});
}

// The access time of the source after a read through the mirror, which the mount options of this test's file system
// (relatime) would move, since it is older than the modification.
time_t access_time_after_read(const std::string& source_path, const std::string& mirror_path) {
  const std::array<timespec, 2> times{timespec{1000, 0}, timespec{2000, 0}};
  EXPECT_EQ(::utimensat(AT_FDCWD, source_path.c_str(), times.data(), 0), 0);
  EXPECT_TRUE(in_child([&] { EXPECT_EQ(read_file(mirror_path), "contents"); }));
  return stat_of(source_path).st_atim.tv_sec;
}

TEST_P(OptionTest, NoatimeMovesNoAccessTimes) {
  mount({.options = {"noatime"}});
  EXPECT_EQ(access_time_after_read(source("f"), mnt("f")), 1000);
  EXPECT_TRUE(in_child([&] { EXPECT_FALSE(list_dir(mnt()).empty()); }));
}

TEST_P(OptionTest, WithoutNoatimeAccessTimesMoveAsTheSourceHasIt) {
  mount();
  EXPECT_GT(access_time_after_read(source("f"), mnt("f")), 1000);
}

TEST_P(OptionTest, AttributesAreKeptAsLongAsToldAndNoLonger) {
  mount({.options = {"attr_timeout=3600,entry_timeout=3600"}});
  EXPECT_TRUE(in_child([&] {
    EXPECT_EQ(stat_of(mnt("f")).st_size, 8);
    append_file(source("f"), "more");
    EXPECT_EQ(stat_of(mnt("f")).st_size, 8);  // stat without open may be that old
    EXPECT_EQ(read_file(mnt("f")).size(), 12u);
    EXPECT_EQ(stat_of(mnt("f")).st_size, 12);
  }));
}

TEST_P(OptionTest, OneThreadIsEnough) {
  mount({.options = {"threads=1"}});
  ForeignLock foreign(source("f"), LOCK_EX);
  Crowd crowd(50, [&](int) { return open_error(mnt("f"), O_RDWR); });
  ASSERT_TRUE(mirror().waits_for(source("f"), 50));
  EXPECT_TRUE(in_child([&] {
    write_file(mnt("g"), "other");
    EXPECT_EQ(read_file(mnt("g")), "other");
    EXPECT_EQ(list_dir(mnt()).size(), 2u);
  }));
  foreign.release();
  EXPECT_TRUE(crowd.all_succeed());
}

TEST_P(OptionTest, GenericMountOptionsReachTheKernel) {
  mount({.options = {"noexec,dirsync,sync,defaults,noauto,nofail,_netdev,comment=any,x-systemd.automount,X-own=1"}});
  const auto entry = find_mount(mnt());
  ASSERT_TRUE(entry);
  const std::string all = entry->mount_options + "," + entry->super_options;
  for (const std::string word : {"nosuid", "nodev", "noexec", "dirsync", "sync"}) {
    EXPECT_TRUE(has_word(all, word)) << word << " in " << all;
  }
  EXPECT_EQ(all.find("systemd"), std::string::npos);
}

TEST_P(OptionTest, DevLetsDevicesBeOpened) {
  ASSERT_EQ(::mknod(source("zero").c_str(), S_IFCHR | 0666, makedev(1, 5)), 0);
  mount({.options = {"dev"}});
  EXPECT_TRUE(in_child([&] {
    const UniqueFd fd = open_file(mnt("zero"), O_RDONLY);
    char byte = 'x';
    EXPECT_EQ(::read(fd.get(), &byte, 1), 1);
    EXPECT_EQ(byte, '\0');
  }));
  EXPECT_FALSE(mirror().has_open(source("zero")));  // the kernel opens the device, not the daemon
}

TEST_P(OptionTest, MountTableShowsSourceAndType) {
  mount();
  const auto entry = find_mount(mnt());
  ASSERT_TRUE(entry);
  EXPECT_EQ(entry->type, "fuse.flockfs");
  EXPECT_EQ(entry->source, source());
  EXPECT_TRUE(has_word(entry->super_options, "default_permissions"));
  EXPECT_TRUE(has_word(entry->super_options, "allow_other"));
}

TEST_P(OptionTest, BothSpellingsOfLongOptionsAreUnderstood) {
  MirrorSetup setup;
  setup.options = {"stop-timeout=1s", "hold_warn=5min"};
  setup.arguments = {"--attr-timeout",  "0.5", "--entry_timeout=0.5", "--threads", "2", "--exclude=x",
                     "--no-allow-other"};
  mount(setup);
  EXPECT_TRUE(in_child([&] { EXPECT_EQ(read_file(mnt("f")), "contents"); }));
  EXPECT_FALSE(has_word(find_mount(mnt())->super_options, "allow_other"));
}

}  // namespace
}  // namespace flockfs::test
