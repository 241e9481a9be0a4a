// Where names and attributes may be kept for long, the kernel also keeps the listings of directories that have not
// changed for some seconds (ListingRecord); an opendir(3) shows what the source has all the same.

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <cerrno>
#include <memory>
#include <set>
#include <string>

#include "harness/file_systems.h"
#include "harness/mirror_test.h"

namespace flockfs::test {
namespace {

constexpr int kFiles = 500;

bool has_file_handles(const std::string& path) {
  file_handle handle{};
  int mount_id = 0;
  return ::name_to_handle_at(AT_FDCWD, path.c_str(), &handle, &mount_id, 0) != 0 && errno == EOVERFLOW;
}

class CachedListingTest : public MirrorTest {
 protected:
  void SetUp() override {
    make_dir(source("d"));
    for (int i = 0; i < kFiles; ++i) write_file(source("d/file-" + std::to_string(i)), "");
    const time_t made = stat_of(source("d")).st_ctim.tv_sec;
    ASSERT_TRUE(eventually([&] { return ::time(nullptr) > made + 5; }, kPatience * 2));
  }
  // Read-only: elsewhere a listing moves the access time, so that the fstat(2) of the next opendir(3) asks for all
  // attributes again, and tells the kernel of a change by the way.
  void mount_it(const std::string& access = "ro") {
    mount({.options = {access, "attr_timeout=3600", "entry_timeout=3600"}});
  }

  // In the client's part of a test.
  void expect_as_in_source() const { EXPECT_EQ(list_dir(mnt("d")), list_dir(source("d"))); }

  // READDIR requests of the mount so far, which ends.
  int listings() {
    const LogEntry requests = unmount_and_count();
    return requests.number("readdir") + requests.number("readdirplus");
  }
};

TEST_F(CachedListingTest, IsReadOnce) {
  if (!has_file_handles(source())) GTEST_SKIP() << "no file handles here";
  mount_it();
  EXPECT_TRUE(in_child([&] {
    for (int round = 0; round < 20; ++round) expect_as_in_source();
  }));
  EXPECT_LE(listings(), 1 + kFiles / 20) << "as often as one listing takes, and not 20 times";
}

// Some of these file systems do not say when a directory has changed.
TEST_F(CachedListingTest, WithoutFileHandlesItIsReadEachTime) {
  const std::string lower = folder("lower");
  make_dir(lower + "/d");
  for (int i = 0; i < kFiles; ++i) write_file(lower + "/d/file-" + std::to_string(i), "");
  ASSERT_EQ(mount_overlay(lower, folder("upper"), folder("work"), source()), 0);
  const time_t made = stat_of(source("d")).st_ctim.tv_sec;
  ASSERT_TRUE(eventually([&] { return ::time(nullptr) > made + 5; }, kPatience * 2));
  mount_it();
  EXPECT_TRUE(in_child([&] {
    for (int round = 0; round < 20; ++round) expect_as_in_source();
  }));
  EXPECT_GE(listings(), 20);
}

TEST_F(CachedListingTest, EachOpenShowsWhatTheSourceHas) {
  mount_it();
  EXPECT_TRUE(in_child([&] {
    for (int round = 0; round < 50; ++round) {
      expect_as_in_source();
      const std::string name = source("d/new-" + std::to_string(round));
      write_file(name, "");
      expect_as_in_source();
      EXPECT_EQ(::rename(name.c_str(), source("d/renamed").c_str()), 0);
      expect_as_in_source();
      EXPECT_EQ(::unlink(source("d/renamed").c_str()), 0);
    }
    expect_as_in_source();
  }));
}

TEST_F(CachedListingTest, WhatTheMirrorChangesIsSeenToo) {
  mount_it("rw");
  EXPECT_TRUE(in_child([&] {
    for (int round = 0; round < 10; ++round) {
      expect_as_in_source();
      write_file(mnt("d/new-" + std::to_string(round)), "");
      expect_as_in_source();
      EXPECT_EQ(::unlink(mnt("d/file-" + std::to_string(round)).c_str()), 0);
      expect_as_in_source();
    }
  }));
}

// A reader that was told of the old entries still adds them to what the kernel keeps.
TEST_F(CachedListingTest, ReaderOfBeforeAChangeHidesItFromNobody) {
  mount_it();
  EXPECT_TRUE(in_child([&] {
    const std::unique_ptr<DIR, int (*)(DIR*)> old(::opendir(mnt("d").c_str()), ::closedir);
    ASSERT_NE(old, nullptr);
    for (int i = 0; i < 10; ++i) EXPECT_NE(::readdir(old.get()), nullptr);
    for (int i = 0; i < kFiles; i += 2) EXPECT_EQ(::unlink(source("d/file-" + std::to_string(i)).c_str()), 0);
    expect_as_in_source();
    while (::readdir(old.get()) != nullptr) {
    }
    for (int round = 0; round < 3; ++round) expect_as_in_source();
  }));
}

// The kernel asks for the directory's attributes no later than after a second.
TEST_F(CachedListingTest, RewindSoonSeesWhatIsNew) {
  mount_it();
  EXPECT_TRUE(in_child([&] {
    const std::unique_ptr<DIR, int (*)(DIR*)> dir(::opendir(mnt("d").c_str()), ::closedir);
    ASSERT_NE(dir, nullptr);
    const auto names = [&dir] {
      std::set<std::string> all;
      ::rewinddir(dir.get());
      while (const dirent* entry = ::readdir(dir.get())) all.insert(entry->d_name);
      return all;
    };
    EXPECT_EQ(names().size(), kFiles + 2u);
    write_file(source("d/new"), "");
    EXPECT_TRUE(eventually([&] { return names().contains("new"); }));
  }));
}

TEST_F(CachedListingTest, PlacesAreKept) {
  mount_it();
  EXPECT_TRUE(in_child([&] {
    expect_as_in_source();
    const std::unique_ptr<DIR, int (*)(DIR*)> dir(::opendir(mnt("d").c_str()), ::closedir);
    ASSERT_NE(dir, nullptr);
    for (int i = 0; i < 300; ++i) EXPECT_NE(::readdir(dir.get()), nullptr);
    const long place = ::telldir(dir.get());
    const auto rest = [&dir] {
      std::vector<std::string> names;
      while (const dirent* entry = ::readdir(dir.get())) names.emplace_back(entry->d_name);
      return names;
    };
    const auto names = rest();
    EXPECT_EQ(names.size(), kFiles + 2u - 300u);
    ::seekdir(dir.get(), place);
    EXPECT_EQ(rest(), names);
  }));
}

}  // namespace
}  // namespace flockfs::test
