// Issue 2, deliverable 1: listing directories, in all the ways readdir(3) allows.

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <memory>
#include <set>
#include <string>
#include <vector>

#include "harness/file_systems.h"
#include "harness/mirror_test.h"

namespace flockfs::test {
namespace {

using Dir = std::unique_ptr<DIR, int (*)(DIR*)>;

Dir open_dir(const std::string& path) {
  Dir dir(::opendir(path.c_str()), ::closedir);
  if (!dir) throw std::runtime_error("opendir " + path);
  return dir;
}

// The next `count` names, or all that are left.
std::vector<std::string> read_names(const Dir& dir, std::size_t count = SIZE_MAX) {
  std::vector<std::string> names;
  while (names.size() < count) {
    const dirent* entry = ::readdir(dir.get());
    if (entry == nullptr) break;
    names.emplace_back(entry->d_name);
  }
  return names;
}

// ext4 and tmpfs give their directory offsets in quite different ways. What the kernel may keep for long it lists
// itself.
enum class Ground { kDisk, kTmpfs, kCached };
const std::vector<std::string> kLong{"attr_timeout=3600", "entry_timeout=3600"};

class ListingTest : public MirrorTest, public ::testing::WithParamInterface<Ground> {
 protected:
  void SetUp() override {
    if (GetParam() == Ground::kTmpfs) {
      ASSERT_EQ(mount_tmpfs(source()), 0);
    }
    make_dir(source("d"));
  }
  void mount() { MirrorTest::mount({.options = GetParam() == Ground::kCached ? kLong : std::vector<std::string>{}}); }
  // Most are further names of the first: making thousands of inodes takes seconds on some disks.
  void make_files(int count) {
    const std::string first = source("d/file-0");
    write_file(first, "");
    for (int i = 1; i < count; ++i) {
      const std::string path = source("d/file-" + std::to_string(i));
      if (i < 10) {
        write_file(path, "");
      } else {
        ASSERT_EQ(::link(first.c_str(), path.c_str()), 0);
      }
    }
  }
};
INSTANTIATE_TEST_SUITE_P(Mount, ListingTest, ::testing::Values(Ground::kDisk, Ground::kTmpfs, Ground::kCached),
                         [](const ::testing::TestParamInfo<Ground>& ground) {
                           return ground.param == Ground::kDisk    ? "Disk"
                                  : ground.param == Ground::kTmpfs ? "Tmpfs"
                                                                   : "Cached";
                         });

TEST_P(ListingTest, FiveThousandEntriesAreEachListedOnce) {
  make_files(5000);
  mount();
  EXPECT_TRUE(in_child(
      [&] {
        const Dir dir = open_dir(mnt("d"));
        const auto names = read_names(dir);
        EXPECT_EQ(names.size(), 5002u);
        const std::set<std::string> distinct(names.begin(), names.end());
        EXPECT_EQ(distinct.size(), 5002u);
        EXPECT_TRUE(distinct.contains(".") && distinct.contains("..") && distinct.contains("file-4999"));
        ::rewinddir(dir.get());
        EXPECT_EQ(read_names(dir).size(), 5002u);
      },
      kPatience * 2));
}

TEST_P(ListingTest, SeekdirGoesBackToWhereTelldirWas) {
  make_files(1000);
  mount();
  EXPECT_TRUE(in_child([&] {
    const Dir dir = open_dir(mnt("d"));
    (void)read_names(dir, 300);
    const long place = ::telldir(dir.get());
    const auto rest = read_names(dir);
    EXPECT_EQ(rest.size(), 702u);
    ::seekdir(dir.get(), place);
    EXPECT_EQ(read_names(dir), rest);
    ::rewinddir(dir.get());
    EXPECT_EQ(read_names(dir, 300).size(), 300u);
    EXPECT_EQ(read_names(dir), rest);
  }));
}

TEST_P(ListingTest, RewindSeesWhatIsNew) {
  make_files(10);
  mount();
  EXPECT_TRUE(in_child([&] {
    const Dir dir = open_dir(mnt("d"));
    EXPECT_EQ(read_names(dir).size(), 12u);
    write_file(source("d/from the source"), "");
    write_file(mnt("d/from the mirror"), "");
    EXPECT_EQ(::unlink(mnt("d/file-3").c_str()), 0);
    ::rewinddir(dir.get());
    EXPECT_EQ(read_names(dir).size(), 13u);
  }));
}

// As `rm -r` and `find -delete` do.
TEST_P(ListingTest, RemovingWhileListingLosesNothingAndRepeatsNothing) {
  make_files(1000);
  mount();
  EXPECT_TRUE(in_child([&] {
    const Dir dir = open_dir(mnt("d"));
    std::set<std::string> seen;
    while (const dirent* entry = ::readdir(dir.get())) {
      const std::string name = entry->d_name;
      EXPECT_TRUE(seen.insert(name).second) << name << " twice";
      if (name.front() == '.') continue;
      EXPECT_EQ(::unlink(mnt("d/" + name).c_str()), 0);
    }
    EXPECT_EQ(seen.size(), 1002u);
    EXPECT_EQ(::rmdir(mnt("d").c_str()), 0);
  }));
  EXPECT_FALSE(exists(source("d")));
}

TEST_P(ListingTest, TypesAndInodeNumbersAreThoseOfStat) {
  make_files(3);
  make_dir(source("d/dir"));
  ASSERT_EQ(::symlink("x", source("d/link").c_str()), 0);
  ASSERT_EQ(::mkfifo(source("d/fifo").c_str(), 0600), 0);
  mount();
  EXPECT_TRUE(in_child([&] {
    const Dir dir = open_dir(mnt("d"));
    while (const dirent* entry = ::readdir(dir.get())) {
      const std::string name = entry->d_name;
      if (name == "..") continue;
      SCOPED_TRACE(name);
      const struct stat status = stat_of(mnt("d/" + name));
      EXPECT_EQ(entry->d_ino, status.st_ino);
      EXPECT_EQ(DTTOIF(entry->d_type), status.st_mode & S_IFMT);
    }
  }));
}

// The kernel remembers what readdirplus told: opening must not believe it (DESIGN 1.3).
TEST_P(ListingTest, FileReplacedAfterItWasListedIsOpenedAsTheNewOne) {
  write_file(source("d/f"), "old");
  MirrorTest::mount({.options = kLong});
  EXPECT_TRUE(in_child([&] {
    EXPECT_EQ(list_dir(mnt("d")).size(), 1u);
    write_file(source("d/new"), "the new one");
    EXPECT_EQ(::rename(source("d/new").c_str(), source("d/f").c_str()), 0);
    const UniqueFd fd = open_file(mnt("d/f"), O_RDONLY);
    struct stat status {};
    EXPECT_EQ(::fstat(fd.get(), &status), 0);
    EXPECT_EQ(status.st_size, 11);
    EXPECT_EQ(read_all(fd.get()), "the new one");
  }));
}

TEST_P(ListingTest, TwoListersOfOneDirectoryDoNotDisturbEachOther) {
  make_files(2000);
  mount();
  const auto list = [&](Peer&) {
    for (int round = 0; round < 3; ++round) EXPECT_EQ(list_dir(mnt("d")).size(), 2000u);
  };
  Child first(list);
  Child second(list);
  EXPECT_TRUE(first.ends_well(kPatience * 2));
  EXPECT_TRUE(second.ends_well(kPatience * 2));
}

TEST_P(ListingTest, EmptyAndRemovedDirectoriesAreListed) {
  mount();
  EXPECT_TRUE(in_child([&] {
    EXPECT_TRUE(list_dir(mnt("d")).empty());
    const Dir dir = open_dir(mnt("d"));
    EXPECT_EQ(::rmdir(mnt("d").c_str()), 0);
    EXPECT_LE(read_names(dir).size(), 2u);
  }));
}

TEST_P(ListingTest, DirectoryThatMayNotBeReadIsRefused) {
  make_dir(source("secret"), 0700);
  make_files(1);
  mount();
  EXPECT_TRUE(in_child([&] {
    ASSERT_EQ(::setresgid(12345, 12345, 12345), 0);
    ASSERT_EQ(::setresuid(12345, 12345, 12345), 0);
    EXPECT_EQ(open_error(mnt("secret"), O_RDONLY | O_DIRECTORY), EACCES);
    EXPECT_EQ(list_dir(mnt("d")).size(), 1u);
  }));
}

}  // namespace
}  // namespace flockfs::test
