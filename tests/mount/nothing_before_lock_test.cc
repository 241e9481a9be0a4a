// DESIGN 1.2: nothing happens before the lock. O_TRUNC truncates only after LOCK_EX is held; a created file is never
// visible unlocked; truncate(2) by path is a write and needs the lock too.

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <string>
#include <vector>

#include "harness/crowd.h"
#include "harness/file_systems.h"
#include "harness/mirror_test.h"
#include "harness/program.h"
#include "harness/watcher.h"

namespace flockfs::test {
namespace {

class TruncateOnOpenTest : public PassthroughTest {};
INSTANTIATE_TEST_SUITE_P(Mount, TruncateOnOpenTest, BothPassthroughs(), passthrough_name);

TEST_P(TruncateOnOpenTest, ContentStaysUntilTheReaderLetsGo) {
  const std::vector<int> flags{O_WRONLY | O_TRUNC, O_RDWR | O_TRUNC, O_WRONLY | O_CREAT | O_TRUNC,
                               O_RDWR | O_CREAT | O_TRUNC, O_WRONLY | O_TRUNC | O_APPEND};
  write_file(source("f"), "contents");
  mount();
  for (const int flag : flags) {
    SCOPED_TRACE(flag);
    write_file(source("f"), "contents");
    ForeignLock foreign(source("f"), LOCK_SH);
    const struct stat before = stat_of(source("f"));
    Opener writer(mnt("f"), flag);
    ASSERT_TRUE(mirror().waits(writer.pid()));
    EXPECT_EQ(read_all(foreign.fd()), "contents");
    EXPECT_EQ(stat_of(source("f")).st_mtim.tv_nsec, before.st_mtim.tv_nsec);
    foreign.release();
    ASSERT_TRUE(writer.opens());
    EXPECT_EQ(stat_of(source("f")).st_size, 0);
    EXPECT_EQ(source_lock(source("f")), LockSeen::kExclusive);
    writer.close();
  }
}

TEST_P(TruncateOnOpenTest, ContentStaysWhenTheWaitIsEnded) {
  write_file(source("f"), "contents");
  mount();
  ForeignLock foreign(source("f"), LOCK_SH);
  Opener writer(mnt("f"), O_WRONLY | O_TRUNC);
  ASSERT_TRUE(mirror().waits(writer.pid()));
  writer.child().signal(SIGKILL);
  ASSERT_TRUE(writer.child().killed_by(SIGKILL));
  foreign.release();
  EXPECT_TRUE(becomes_free(source("f")));
  EXPECT_EQ(read_file(source("f")), "contents");
}

// Linux truncates for O_RDONLY|O_TRUNC too; a shared lock is not enough for that.
TEST_P(TruncateOnOpenTest, ReadOnlyTruncationNeedsTheExclusiveLock) {
  write_file(source("f"), "contents");
  mount();
  ForeignLock foreign(source("f"), LOCK_SH);
  Opener opener(mnt("f"), O_RDONLY | O_TRUNC);
  ASSERT_TRUE(mirror().waits(opener.pid()));
  EXPECT_EQ(read_all(foreign.fd()), "contents");
  foreign.release();
  ASSERT_TRUE(opener.opens());
  EXPECT_EQ(stat_of(source("f")).st_size, 0);
  opener.close();
}

TEST_P(TruncateOnOpenTest, ReadOnlyTruncationTruncates) {
  write_file(source("f"), "contents");
  mount();
  EXPECT_TRUE(in_child([&] {
    EXPECT_EQ(open_error(mnt("f"), O_RDONLY | O_TRUNC), 0);
    EXPECT_EQ(stat_of(mnt("f")).st_size, 0);
  }));
  EXPECT_EQ(stat_of(source("f")).st_size, 0);
}

TEST_P(TruncateOnOpenTest, ShellRedirectionLeavesContentUntilTheLockIsFree) {
  write_file(source("f"), "contents");
  mount();
  ForeignLock foreign(source("f"), LOCK_SH);
  Program shell({"sh", "-c", "echo new > " + mnt("f")});
  ASSERT_TRUE(mirror().waits(shell.pid()));
  EXPECT_EQ(read_all(foreign.fd()), "contents");
  foreign.release();
  EXPECT_EQ(shell.exit_code(), 0);
  EXPECT_EQ(read_file(source("f")), "new\n");
}

class CreateTest : public PassthroughTest {};
INSTANTIATE_TEST_SUITE_P(Mount, CreateTest, BothPassthroughs(), passthrough_name);

// Each file is locked by somebody else as soon as its name can be opened in the source: that must never succeed while
// the creator still has it open.
TEST_P(CreateTest, NewFileIsNeverSeenUnlocked) {
  mount();
  EXPECT_EQ(names_seen_unlocked(mnt(), source(), 200), 0);
}

TEST_P(CreateTest, NewFileIsNeverSeenUnlockedOnTmpfs) {
  ASSERT_EQ(mount_tmpfs(source()), 0);
  mount();
  EXPECT_EQ(names_seen_unlocked(mnt(), source(), 200), 0);
}

// A creating open whose name turns up in the source waits there like any open, and truncates after the lock only.
TEST_P(CreateTest, CreatingOpenOfANameThatTurnedUpWaitsForIt) {
  mount({.options = {"entry_timeout=3600"}});
  EXPECT_TRUE(in_child([&] { EXPECT_FALSE(exists(mnt("f"))); }));
  write_file(source("f"), "contents");
  ForeignLock foreign(source("f"), LOCK_SH);
  Opener writer(mnt("f"), O_WRONLY | O_CREAT | O_TRUNC);
  ASSERT_TRUE(mirror().waits(writer.pid()));
  EXPECT_EQ(read_all(foreign.fd()), "contents");
  foreign.release();
  ASSERT_TRUE(writer.opens());
  EXPECT_EQ(stat_of(source("f")).st_size, 0);
  writer.close();
}

TEST_P(CreateTest, ExclusiveCreationOfANameThatTurnedUpFailsAndLeavesIt) {
  mount({.options = {"entry_timeout=3600"}});
  EXPECT_TRUE(in_child([&] { EXPECT_FALSE(exists(mnt("f"))); }));
  write_file(source("f"), "contents");
  const ForeignLock foreign(source("f"), LOCK_EX);
  EXPECT_TRUE(in_child([&] { EXPECT_EQ(open_error(mnt("f"), O_WRONLY | O_CREAT | O_EXCL), EEXIST); }));
  EXPECT_EQ(read_file(source("f")), "contents");
}

// Two that create the same name at the same time: one makes it, the other waits for it; no error reaches either.
TEST_P(CreateTest, RacingCreatorsAllGetTheFile) {
  mount();
  for (int round = 0; round < 20; ++round) {
    const std::string name = "f" + std::to_string(round);
    Opener first(mnt(name), O_RDWR | O_CREAT);
    Opener second(mnt(name), O_RDWR | O_CREAT);
    Opener* winner = nullptr;
    ASSERT_TRUE(eventually([&] {
      winner = !first.is_waiting() ? &first : !second.is_waiting() ? &second : nullptr;
      return winner != nullptr;
    }));
    Opener& loser = winner == &first ? second : first;
    ASSERT_TRUE(winner->opens());
    ASSERT_TRUE(mirror().waits(loser.pid()));
    EXPECT_TRUE(loser.is_waiting());
    winner->close();
    ASSERT_TRUE(loser.opens());
    loser.close();
  }
}

class TruncateByPathTest : public PassthroughTest {
 protected:
  // The errno of truncate(2) on the mirror, or 0.
  int truncate_error(off_t size, Millis time = kPatience) {
    Child child([&](Peer& test) { test.say(std::to_string(::truncate(mnt("f").c_str(), size) == 0 ? 0 : errno)); });
    const auto answer = child.hear(time);
    return answer ? std::stoi(*answer) : ETIMEDOUT;
  }
};
INSTANTIATE_TEST_SUITE_P(Mount, TruncateByPathTest, BothPassthroughs(), passthrough_name);

TEST_P(TruncateByPathTest, WorksAndLeavesNoLockWhenTheFileIsFree) {
  write_file(source("f"), "contents");
  mount();
  EXPECT_EQ(truncate_error(4), 0);
  EXPECT_EQ(read_file(source("f")), "cont");
  EXPECT_EQ(truncate_error(8), 0);
  EXPECT_EQ(read_file(source("f")), std::string("cont\0\0\0\0", 8));
  EXPECT_TRUE(becomes_free(source("f")));
}

TEST_P(TruncateByPathTest, IsRefusedWhileAnotherClientOfTheMirrorHolds) {
  write_file(source("f"), "contents");
  mount();
  for (const int flags : {O_RDONLY, O_RDWR}) {
    SCOPED_TRACE(flags);
    Opener holder(mnt("f"), flags);
    ASSERT_TRUE(holder.opens());
    EXPECT_EQ(truncate_error(4), EAGAIN);
    EXPECT_EQ(read_file(source("f")), "contents");
    holder.close();
  }
}

// The lock of an open ends some time after its close(2) has returned; nobody must notice.
TEST_P(TruncateByPathTest, WorksRightAfterTheLastClose) {
  write_file(source("f"), "contents");
  mount();
  Crowd busy(4, [](int) {
    for (;;) {
    }
    return 0;
  });
  EXPECT_TRUE(in_child(
      [&] {
        for (int round = 0; round < 200; ++round) {
          EXPECT_EQ(open_error(mnt("f"), round % 2 == 0 ? O_RDONLY : O_RDWR), 0);
          EXPECT_EQ(::truncate(mnt("f").c_str(), 8 + round % 2), 0) << errno_name(errno);
        }
      },
      kPatience * 2));
  busy.signal(SIGKILL);
  EXPECT_TRUE(busy.all_gone());
}

TEST_P(TruncateByPathTest, WaitsForAHolderOutsideTheMirror) {
  write_file(source("f"), "contents");
  mount();
  ForeignLock foreign(source("f"), LOCK_SH);
  Child child([&](Peer& test) {
    test.say("start");
    test.say(std::to_string(::truncate(mnt("f").c_str(), 4) == 0 ? 0 : errno));
  });
  ASSERT_TRUE(child.says("start"));
  EXPECT_TRUE(child.silent(Millis(300)));
  EXPECT_EQ(read_all(foreign.fd()), "contents");
  foreign.release();
  ASSERT_TRUE(child.says("0"));
  EXPECT_EQ(read_file(source("f")), "cont");
  EXPECT_TRUE(becomes_free(source("f")));
}

TEST_P(TruncateByPathTest, GivesUpAfterFiveSeconds) {
  write_file(source("f"), "contents");
  mount();
  const ForeignLock foreign(source("f"), LOCK_SH);
  const Stopwatch watch;
  EXPECT_EQ(truncate_error(4, Millis(8000)), EAGAIN);
  EXPECT_LT(watch.elapsed(), scaled(Millis(7000)));
  EXPECT_EQ(read_file(source("f")), "contents");
}

// Its wait holds the inode's lock in the kernel, which a client that opens the file will need.
TEST_P(TruncateByPathTest, GivesWayToAClientThatOpensTheFile) {
  write_file(source("f"), "contents");
  mount();
  const ForeignLock foreign(source("f"), LOCK_SH);
  Child child([&](Peer& test) {
    test.say("start");
    test.say(std::to_string(::truncate(mnt("f").c_str(), 4) == 0 ? 0 : errno));
  });
  ASSERT_TRUE(child.says("start"));
  EXPECT_TRUE(child.silent(Millis(200)));
  const Stopwatch watch;
  Opener reader(mnt("f"), O_RDONLY);
  ASSERT_TRUE(reader.opens());
  ASSERT_TRUE(child.says(std::to_string(EAGAIN)));
  EXPECT_LT(watch.elapsed(), scaled(Millis(1500)));
  EXPECT_EQ(reader.contents(), "contents");
  reader.close();
}

TEST_P(TruncateByPathTest, ByDescriptorWorksUnderItsOwnLock) {
  write_file(source("f"), "contents");
  mount();
  EXPECT_TRUE(in_child([&] {
    const UniqueFd fd = open_file(mnt("f"), O_RDWR);
    EXPECT_EQ(::ftruncate(fd.get(), 3), 0);
    EXPECT_EQ(read_all(fd.get()), "con");
    EXPECT_EQ(::ftruncate(fd.get(), 5), 0);
    EXPECT_EQ(read_all(fd.get()), std::string("con\0\0", 5));
  }));
  EXPECT_EQ(stat_of(source("f")).st_size, 5);
}

}  // namespace
}  // namespace flockfs::test
