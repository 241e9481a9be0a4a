// DESIGN 1.1: every open of a regular file returns only when the lock of its access mode is held.

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <string>
#include <vector>

#include "harness/mirror_test.h"

namespace flockfs::test {
namespace {

struct OpenCase {
  const char* name;
  int flags;
  bool exists;  // before the open
  LockSeen lock;
};

const std::vector<OpenCase>& open_cases() {
  constexpr LockSeen kSh = LockSeen::kShared;
  constexpr LockSeen kEx = LockSeen::kExclusive;
  static const std::vector<OpenCase> cases{
      {"rdonly", O_RDONLY, true, kSh},
      {"rdonly_nonblock", O_RDONLY | O_NONBLOCK, true, kSh},
      {"rdonly_noatime", O_RDONLY | O_NOATIME, true, kSh},
      {"rdonly_nofollow", O_RDONLY | O_NOFOLLOW, true, kSh},
      {"rdonly_direct", O_RDONLY | O_DIRECT, true, kSh},
      {"rdonly_append", O_RDONLY | O_APPEND, true, kSh},
      {"rdonly_creat_existing", O_RDONLY | O_CREAT, true, kSh},
      {"rdonly_creat_new", O_RDONLY | O_CREAT, false, kSh},
      {"wronly", O_WRONLY, true, kEx},
      {"wronly_append", O_WRONLY | O_APPEND, true, kEx},
      {"wronly_nonblock", O_WRONLY | O_NONBLOCK, true, kEx},
      {"wronly_trunc", O_WRONLY | O_TRUNC, true, kEx},
      {"wronly_sync", O_WRONLY | O_SYNC, true, kEx},
      {"wronly_creat_existing", O_WRONLY | O_CREAT, true, kEx},
      {"wronly_creat_new", O_WRONLY | O_CREAT, false, kEx},
      {"wronly_creat_excl_new", O_WRONLY | O_CREAT | O_EXCL, false, kEx},
      {"wronly_creat_trunc_existing", O_WRONLY | O_CREAT | O_TRUNC, true, kEx},
      {"rdwr", O_RDWR, true, kEx},
      {"rdwr_append", O_RDWR | O_APPEND, true, kEx},
      {"rdwr_trunc", O_RDWR | O_TRUNC, true, kEx},
      {"rdwr_direct", O_RDWR | O_DIRECT, true, kEx},
      {"rdwr_creat_new", O_RDWR | O_CREAT, false, kEx},
      {"rdwr_creat_excl_append_new", O_RDWR | O_CREAT | O_EXCL | O_APPEND, false, kEx},
      {"rdwr_creat_trunc_existing", O_RDWR | O_CREAT | O_TRUNC, true, kEx},
      {"neither_read_nor_write", O_ACCMODE, true, kEx},
  };
  return cases;
}

class LockOnOpenTest : public PassthroughTest {
 protected:
  void make_files() {
    for (const OpenCase& open_case : open_cases()) {
      if (open_case.exists) write_file(source(open_case.name), "contents");
    }
  }
};
INSTANTIATE_TEST_SUITE_P(Mount, LockOnOpenTest, BothPassthroughs(), passthrough_name);

TEST_P(LockOnOpenTest, IsHeldInTheModeOfTheFlagsUntilClose) {
  make_files();
  mount();
  for (const OpenCase& open_case : open_cases()) {
    SCOPED_TRACE(open_case.name);
    Opener opener(mnt(open_case.name), open_case.flags);
    ASSERT_TRUE(opener.opens());
    EXPECT_EQ(source_lock(source(open_case.name)), open_case.lock);
    opener.close();
    EXPECT_TRUE(becomes_free(source(open_case.name)));
  }
}

TEST_P(LockOnOpenTest, WaitsWhileAnotherHoldsExclusively) {
  make_files();
  mount();
  for (const OpenCase& open_case : open_cases()) {
    if (!open_case.exists) continue;
    SCOPED_TRACE(open_case.name);
    ForeignLock foreign(source(open_case.name), LOCK_EX);
    Opener opener(mnt(open_case.name), open_case.flags);
    ASSERT_TRUE(mirror().waits(opener.pid()));
    EXPECT_TRUE(opener.is_waiting());
    foreign.release();
    ASSERT_TRUE(opener.opens());
    EXPECT_EQ(source_lock(source(open_case.name)), open_case.lock);
    opener.close();
  }
}

TEST_P(LockOnOpenTest, OnlyWritersWaitWhileAnotherHoldsShared) {
  make_files();
  mount();
  for (const OpenCase& open_case : open_cases()) {
    if (!open_case.exists) continue;
    SCOPED_TRACE(open_case.name);
    ForeignLock foreign(source(open_case.name), LOCK_SH);
    Opener opener(mnt(open_case.name), open_case.flags);
    if (open_case.lock == LockSeen::kExclusive) {
      ASSERT_TRUE(mirror().waits(opener.pid()));
      EXPECT_TRUE(opener.is_waiting());
      foreign.release();
    }
    ASSERT_TRUE(opener.opens());
    EXPECT_EQ(source_lock(source(open_case.name)), open_case.lock);
    opener.close();
  }
}

TEST_P(LockOnOpenTest, ReadersShareAndWritersExcludeWithinTheMirror) {
  write_file(source("f"), "contents");
  mount();
  Opener first(mnt("f"), O_RDONLY);
  ASSERT_TRUE(first.opens());
  Opener second(mnt("f"), O_RDONLY);
  ASSERT_TRUE(second.opens());
  EXPECT_TRUE(has_flocks(source("f"), 2));
  Opener writer(mnt("f"), O_RDWR);
  ASSERT_TRUE(mirror().waits(writer.pid()));
  first.close();
  EXPECT_TRUE(writer.is_waiting());
  EXPECT_EQ(source_lock(source("f")), LockSeen::kShared);
  second.close();
  ASSERT_TRUE(writer.opens());
  EXPECT_EQ(source_lock(source("f")), LockSeen::kExclusive);
  Opener reader(mnt("f"), O_RDONLY);
  ASSERT_TRUE(mirror().waits(reader.pid()));
  EXPECT_TRUE(reader.is_waiting());
  writer.close();
  ASSERT_TRUE(reader.opens());
  reader.close();
}

// The kernel keeps the open file alive from which a backing id was registered: no lock may hang on that one.
TEST_P(LockOnOpenTest, ClosingOneOfSeveralReadersGivesBackItsOwnLock) {
  write_file(source("f"), "contents");
  mount();
  Opener first(mnt("f"), O_RDONLY);
  ASSERT_TRUE(first.opens());
  Opener second(mnt("f"), O_RDONLY);
  ASSERT_TRUE(second.opens());
  first.close();
  EXPECT_TRUE(has_flocks(source("f"), 1));
  EXPECT_EQ(source_lock(source("f")), LockSeen::kShared);
  second.close();
  EXPECT_TRUE(becomes_free(source("f")));
}

TEST_P(LockOnOpenTest, UnnamedTemporaryFileIsLockedBeforeItGetsAName) {
  mount();
  Child child([&](Peer& test) {
    const UniqueFd fd = open_file(mnt(), O_TMPFILE | O_RDWR, 0600);
    ASSERT_EQ(::write(fd.get(), "text", 4), 4);
    const std::string self = "/proc/self/fd/" + std::to_string(fd.get());
    ASSERT_EQ(::linkat(AT_FDCWD, self.c_str(), AT_FDCWD, mnt("named").c_str(), AT_SYMLINK_FOLLOW), 0);
    test.say("named");
    test.await("close");
  });
  ASSERT_TRUE(child.says("named"));
  EXPECT_EQ(source_lock(source("named")), LockSeen::kExclusive);
  EXPECT_EQ(read_file(source("named")), "text");
  child.say("close");
  EXPECT_TRUE(child.ends_well());
  EXPECT_TRUE(becomes_free(source("named")));
}

TEST_P(LockOnOpenTest, OpenThroughASymlinkLocksItsTarget) {
  write_file(source("target"), "contents");
  ASSERT_EQ(::symlink("target", source("link").c_str()), 0);
  mount();
  Opener opener(mnt("link"), O_RDWR);
  ASSERT_TRUE(opener.opens());
  EXPECT_EQ(source_lock(source("target")), LockSeen::kExclusive);
  opener.close();
}

TEST_P(LockOnOpenTest, AllNamesOfAFileAreOneLock) {
  write_file(source("one"), "contents");
  ASSERT_EQ(::link(source("one").c_str(), source("other").c_str()), 0);
  mount();
  Opener writer(mnt("one"), O_RDWR);
  ASSERT_TRUE(writer.opens());
  Opener reader(mnt("other"), O_RDONLY);
  ASSERT_TRUE(mirror().waits(reader.pid()));
  EXPECT_TRUE(reader.is_waiting());
  writer.close();
  ASSERT_TRUE(reader.opens());
  EXPECT_EQ(reader.contents(), "contents");
  reader.close();
}

TEST_P(LockOnOpenTest, ReopeningADescriptorThroughProcTakesALockOfItsOwn) {
  write_file(source("f"), "contents");
  mount();
  Opener opener([&] {
    const UniqueFd path(::open(mnt("f").c_str(), O_PATH));
    return ::open(("/proc/self/fd/" + std::to_string(path.get())).c_str(), O_RDWR);
  });
  ASSERT_TRUE(opener.opens());
  EXPECT_EQ(source_lock(source("f")), LockSeen::kExclusive);
  opener.close();
  EXPECT_TRUE(becomes_free(source("f")));
}

}  // namespace
}  // namespace flockfs::test
