// DESIGN 1.3: what the opener sees is what the lock protects, whatever had been cached before.

#include <fcntl.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <string>
#include <utility>

#include "harness/mirror_test.h"

namespace flockfs::test {
namespace {

class FreshnessTest : public PassthroughTest {
 protected:
  MountedMirror& mount_with_long_caches() { return mount({.options = {"attr_timeout=3600", "entry_timeout=3600"}}); }
};
INSTANTIATE_TEST_SUITE_P(Mount, FreshnessTest, BothPassthroughs(), passthrough_name);

// Has the kernel keep the attributes: in this order, since a read makes it ask for them again.
void fill_caches(const std::string& path) {
  (void)read_file(path);
  (void)stat_of(path);
}

// What fstat, SEEK_END, read and mmap of an open file say; all have to agree with `expected`.
void expect_contents(int fd, const std::string& expected) {
  struct stat status {};
  ASSERT_EQ(::fstat(fd, &status), 0);
  EXPECT_EQ(status.st_size, static_cast<off_t>(expected.size()));
  EXPECT_EQ(::lseek(fd, 0, SEEK_END), static_cast<off_t>(expected.size()));
  EXPECT_TRUE(read_all(fd) == expected);
  if (expected.empty()) return;
  void* map = ::mmap(nullptr, expected.size(), PROT_READ, MAP_SHARED, fd, 0);
  ASSERT_NE(map, MAP_FAILED);
  EXPECT_EQ(std::memcmp(map, expected.data(), expected.size()), 0);
  ::munmap(map, expected.size());
}

// 100 times: the mirror's client has everything cached, the last holder on the source changes the file under its lock,
// and the client's next open, which waited for that lock, sees all of it.
TEST_P(FreshnessTest, OpenThatWaitedSeesWhatTheLastHolderWrote) {
  std::string contents(100, 'a');
  write_file(source("f"), contents);
  mount_with_long_caches();
  Child client([&](Peer& test) {
    for (std::string word = test.hear(); word != "end"; word = test.hear()) {
      const std::string expected = word;
      fill_caches(mnt("f"));
      test.say("cached");
      test.await("open");
      const UniqueFd fd = open_file(mnt("f"), O_RDONLY);
      expect_contents(fd.get(), expected);
      if (::testing::Test::HasFailure()) return;
      test.say("seen");
    }
  });
  for (int round = 0; round < 100; ++round) {
    SCOPED_TRACE(round);
    // Grows, keeps its size, shrinks.
    if (round % 3 == 2) {
      contents.resize(50);
    } else {
      contents = std::string(contents.size() + (round % 3 == 0 ? 5000 : 0), static_cast<char>('b' + round % 20));
    }
    client.say(contents);
    ASSERT_TRUE(client.says("cached"));
    ForeignLock foreign(source("f"), LOCK_EX);
    client.say("open");
    ASSERT_TRUE(mirror().waits_for(source("f"), static_cast<std::size_t>(round) + 1));
    write_file(source("f"), contents);
    foreign.release();
    ASSERT_TRUE(client.says("seen"));
  }
  client.say("end");
  EXPECT_TRUE(client.ends_well());
}

TEST_P(FreshnessTest, OpenThatDidNotWaitSeesWhatTheLastHolderWrote) {
  std::string contents(100, 'a');
  write_file(source("f"), contents);
  mount_with_long_caches();
  EXPECT_TRUE(in_child([&] {
    for (int round = 0; round < 100; ++round) {
      fill_caches(mnt("f"));
      contents = std::string(round % 3 == 2 ? 50 : contents.size() + 5000, static_cast<char>('b' + round % 20));
      write_file(source("f"), contents);
      const UniqueFd fd = open_file(mnt("f"), round % 2 == 0 ? O_RDONLY : O_RDWR);
      expect_contents(fd.get(), contents);
      if (::testing::Test::HasFailure()) return;
    }
  }));
}

TEST_P(FreshnessTest, AppendAfterExternalGrowthGoesToTheEnd) {
  write_file(source("f"), "one");
  mount_with_long_caches();
  EXPECT_TRUE(in_child([&] {
    fill_caches(mnt("f"));
    append_file(source("f"), "two");
    append_file(mnt("f"), "three");
    EXPECT_EQ(read_file(source("f")), "onetwothree");
  }));
}

TEST_P(FreshnessTest, TruncationOfAFileThatGrewUnseenEmptiesIt) {
  write_file(source("f"), "one");
  mount_with_long_caches();
  EXPECT_TRUE(in_child([&] {
    fill_caches(mnt("f"));
    append_file(source("f"), std::string(10000, 'x'));
    const UniqueFd fd = open_file(mnt("f"), O_RDWR | O_TRUNC);
    expect_contents(fd.get(), "");
    EXPECT_EQ(::write(fd.get(), "new", 3), 3);
    expect_contents(fd.get(), "new");
  }));
  EXPECT_EQ(read_file(source("f")), "new");
}

TEST_P(FreshnessTest, FileRenamedOverInTheSourceIsOpenedAsTheNewOne) {
  write_file(source("f"), "old");
  write_file(source("new"), "the new one");
  mount_with_long_caches();
  EXPECT_TRUE(in_child([&] {
    const ino_t old_ino = stat_of(mnt("f")).st_ino;
    EXPECT_EQ(::rename(source("new").c_str(), source("f").c_str()), 0);
    const UniqueFd fd = open_file(mnt("f"), O_RDWR);
    expect_contents(fd.get(), "the new one");
    EXPECT_NE(stat_of(mnt("f")).st_ino, old_ino);
    EXPECT_EQ(::pwrite(fd.get(), "THE", 3, 0), 3);
  }));
  EXPECT_EQ(read_file(source("f")), "THE new one");
}

TEST_P(FreshnessTest, FileRenamedOverDuringTheWaitIsOpenedAsTheNewOne) {
  write_file(source("f"), "old");
  write_file(source("new"), "the new one");
  mount_with_long_caches();
  ForeignLock foreign(source("f"), LOCK_EX);
  Opener writer(mnt("f"), O_RDWR);
  ASSERT_TRUE(mirror().waits(writer.pid()));
  ASSERT_EQ(::rename(source("new").c_str(), source("f").c_str()), 0);
  foreign.release();
  ASSERT_TRUE(writer.opens());
  EXPECT_EQ(writer.contents(), "the new one");
  EXPECT_EQ(source_lock(source("f")), LockSeen::kExclusive);
  writer.close();
  EXPECT_TRUE(becomes_free(source("f")));
}

// The lock of the file that was waited for in vain is given back, too.
TEST_P(FreshnessTest, NoLockStaysOnTheFileThatLostItsName) {
  write_file(source("f"), "old");
  write_file(source("new"), "new");
  mount_with_long_caches();
  ForeignLock foreign(source("f"), LOCK_EX);
  Opener reader(mnt("f"), O_RDONLY);
  ASSERT_TRUE(mirror().waits(reader.pid()));
  ASSERT_EQ(::rename(source("f").c_str(), source("moved").c_str()), 0);
  ASSERT_EQ(::rename(source("new").c_str(), source("f").c_str()), 0);
  foreign.release();
  ASSERT_TRUE(reader.opens());
  EXPECT_EQ(reader.contents(), "new");
  EXPECT_TRUE(becomes_free(source("moved")));
  EXPECT_EQ(source_lock(source("f")), LockSeen::kShared);
  reader.close();
}

// truncate(2) is a write by path; the file that lost its name is held open, so nothing but its name says that it is
// gone.
TEST_P(FreshnessTest, TruncationByPathMeetsTheFileThatHasTheNameNow) {
  write_file(source("f"), "old");
  write_file(source("new"), "the new one");
  mount_with_long_caches();
  const UniqueFd old = open_file(source("f"), O_RDONLY);
  EXPECT_TRUE(in_child([&] {
    EXPECT_EQ(stat_of(mnt("f")).st_size, 3);
    EXPECT_EQ(::rename(source("new").c_str(), source("f").c_str()), 0);
    EXPECT_EQ(::truncate(mnt("f").c_str(), 7), 0) << errno_name(errno);
    EXPECT_EQ(stat_of(mnt("f")).st_size, 7);
    EXPECT_EQ(::unlink(source("f").c_str()), 0);
    EXPECT_EQ(::truncate(mnt("f").c_str(), 5), -1);
    EXPECT_EQ(errno, ENOENT);
  }));
  expect_contents(old.get(), "old");
}

TEST_P(FreshnessTest, TruncationThatWaitedMeetsTheFileThatHasTheNameNow) {
  write_file(source("f"), "old");
  write_file(source("new"), "the new one");
  mount_with_long_caches();
  ForeignLock foreign(source("f"), LOCK_EX);
  const UniqueFd old = open_file(source("f"), O_RDONLY);
  Child child([&](Peer& test) {
    test.say("start");
    test.say(std::to_string(::truncate(mnt("f").c_str(), 7) == 0 ? 0 : errno));
  });
  ASSERT_TRUE(child.says("start"));
  EXPECT_TRUE(child.silent(Millis(100)));
  ASSERT_EQ(::rename(source("new").c_str(), source("f").c_str()), 0);
  foreign.release();
  ASSERT_TRUE(child.says("0"));
  EXPECT_EQ(read_file(source("f")), "the new");
  expect_contents(old.get(), "old");
}

TEST_P(FreshnessTest, FileRemovedInTheSourceIsGoneAtOpen) {
  write_file(source("f"), "old");
  mount_with_long_caches();
  EXPECT_TRUE(in_child([&] {
    EXPECT_EQ(read_file(mnt("f")), "old");
    EXPECT_EQ(::unlink(source("f").c_str()), 0);
    EXPECT_EQ(open_error(mnt("f"), O_RDONLY), ENOENT);
    EXPECT_EQ(open_error(mnt("f"), O_RDWR), ENOENT);
  }));
}

// An open that was told to look again and then found nothing makes no exception of what comes later by that name.
TEST_P(FreshnessTest, OpenAfterAVanishedFileIsCheckedLikeAnyOther) {
  write_file(source("f"), "first");
  mount_with_long_caches();
  EXPECT_TRUE(in_child([&] {
    EXPECT_EQ(read_file(mnt("f")), "first");
    EXPECT_EQ(::unlink(source("f").c_str()), 0);
    EXPECT_EQ(open_error(mnt("f"), O_RDONLY), ENOENT);
    write_file(source("f"), "second");
    EXPECT_EQ(stat_of(mnt("f")).st_size, 6);
    EXPECT_EQ(::rename(source("f").c_str(), source("f.1").c_str()), 0);
    write_file(source("f"), "third");
    const UniqueFd fd = open_file(mnt("f"), O_RDWR);
    EXPECT_EQ(::write(fd.get(), "THIRD", 5), 5);
  }));
  EXPECT_EQ(read_file(source("f.1")), "second");
  EXPECT_EQ(read_file(source("f")), "THIRD");
}

TEST_P(FreshnessTest, CreatingOpenOfAFileRemovedInTheSourceMakesANewOne) {
  write_file(source("f"), "old");
  mount_with_long_caches();
  EXPECT_TRUE(in_child([&] {
    EXPECT_EQ(read_file(mnt("f")), "old");
    EXPECT_EQ(::unlink(source("f").c_str()), 0);
    const UniqueFd fd = open_file(mnt("f"), O_RDWR | O_CREAT);
    EXPECT_EQ(::write(fd.get(), "new", 3), 3);
  }));
  EXPECT_EQ(read_file(source("f")), "new");
}

TEST_P(FreshnessTest, FileRemovedDuringTheWaitIsGone) {
  write_file(source("f"), "old");
  mount_with_long_caches();
  ForeignLock foreign(source("f"), LOCK_EX);
  Opener reader(mnt("f"), O_RDONLY);
  ASSERT_TRUE(mirror().waits(reader.pid()));
  ASSERT_EQ(::unlink(source("f").c_str()), 0);
  foreign.release();
  EXPECT_TRUE(reader.fails_with(ENOENT));
}

// A second change during the second wait, which may be long: what is there then is served.
TEST_P(FreshnessTest, FileThatIsReplacedTwiceIsStillOpened) {
  mount_with_long_caches();
  for (const auto& [flags, second_wait] : {std::pair(O_RDONLY, Millis(0)), std::pair(O_WRONLY, Millis(1500))}) {
    const std::string name = "f" + std::to_string(flags);
    write_file(source(name), "first");
    write_file(source("second"), "second");
    write_file(source("third"), "third");
    ForeignLock first(source(name), LOCK_EX);
    ForeignLock second(source("second"), LOCK_EX);
    Opener opener(mnt(name), flags);
    ASSERT_TRUE(mirror().waits(opener.pid()));
    ASSERT_EQ(::rename(source("second").c_str(), source(name).c_str()), 0);
    first.release();
    ASSERT_TRUE(log().wait_for_count({.event = "wait", .pid = opener.pid()}, 2));
    pause_for(second_wait);  // the time is what is tested
    ASSERT_EQ(::rename(source("third").c_str(), source(name).c_str()), 0);
    second.release();
    ASSERT_TRUE(opener.opens());
    opener.close();
  }
}

TEST_P(FreshnessTest, NamesThatAreMissingAreNotRemembered) {
  mount_with_long_caches();
  EXPECT_TRUE(in_child([&] {
    EXPECT_FALSE(exists(mnt("f")));
    write_file(source("f"), "now it is there");
    EXPECT_TRUE(exists(mnt("f")));
    EXPECT_EQ(read_file(mnt("f")), "now it is there");
  }));
}

// A file without a name when the request came is served as it is.
TEST_P(FreshnessTest, UnlinkedOpenFileCanBeReopenedThroughProc) {
  write_file(source("f"), "contents");
  mount_with_long_caches();
  EXPECT_TRUE(in_child([&] {
    const UniqueFd fd = open_file(mnt("f"), O_RDONLY);
    EXPECT_EQ(::unlink(mnt("f").c_str()), 0);
    const UniqueFd again = open_file("/proc/self/fd/" + std::to_string(fd.get()), O_RDONLY);
    EXPECT_EQ(read_all(again.get()), "contents");
  }));
}

// One that never had a name, and that only an O_PATH descriptor keeps alive between its opens.
TEST_P(FreshnessTest, FileThatNeverHadANameCanBeReopenedThroughProc) {
  mount_with_long_caches();
  Child child([&](Peer& test) {
    UniqueFd fd = open_file(mnt(), O_TMPFILE | O_RDWR, 0600);
    ASSERT_EQ(::write(fd.get(), "contents", 8), 8);
    const UniqueFd path(::open(("/proc/self/fd/" + std::to_string(fd.get())).c_str(), O_PATH | O_CLOEXEC));
    ASSERT_TRUE(path.valid());
    fd.reset();
    ASSERT_TRUE(log().wait_for({.event = "unlock"})) << "the mirror still has it open";
    const UniqueFd again = open_file("/proc/self/fd/" + std::to_string(path.get()), O_RDONLY);
    expect_contents(again.get(), "contents");
    // Its lock cannot be seen from outside before it has a name.
    const std::string self = "/proc/self/fd/" + std::to_string(again.get());
    ASSERT_EQ(::linkat(AT_FDCWD, self.c_str(), AT_FDCWD, mnt("named").c_str(), AT_SYMLINK_FOLLOW), 0);
    test.say("named");
    test.await("close");
  });
  ASSERT_TRUE(child.says("named"));
  EXPECT_EQ(source_lock(source("named")), LockSeen::kShared);
  child.say("close");
  EXPECT_TRUE(child.ends_well());
  EXPECT_TRUE(becomes_free(source("named")));
}

TEST_P(FreshnessTest, StatWithoutOpenIsNoOlderThanTheCache) {
  write_file(source("f"), "one");
  mount({.options = {"attr_timeout=0", "entry_timeout=0"}});
  EXPECT_TRUE(in_child([&] {
    EXPECT_EQ(stat_of(mnt("f")).st_size, 3);
    append_file(source("f"), "two");
    EXPECT_EQ(stat_of(mnt("f")).st_size, 6);
    EXPECT_EQ(::rename(source("f").c_str(), source("g").c_str()), 0);
    EXPECT_FALSE(exists(mnt("f")));
    EXPECT_TRUE(exists(mnt("g")));
  }));
}

// What one client wrote and closed is what the next one opens, cached or not.
TEST_P(FreshnessTest, ClientsOfTheMirrorSeeEachOthersWrites) {
  write_file(source("f"), "");
  mount_with_long_caches();
  EXPECT_TRUE(in_child([&] {
    std::string expected;
    for (int round = 0; round < 50; ++round) {
      append_file(mnt("f"), "line\n");
      expected += "line\n";
      const UniqueFd fd = open_file(mnt("f"), O_RDONLY);
      expect_contents(fd.get(), expected);
      if (::testing::Test::HasFailure()) return;
    }
  }));
}

}  // namespace
}  // namespace flockfs::test
