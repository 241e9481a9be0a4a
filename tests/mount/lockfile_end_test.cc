// The end of a mirror that holds lock files: whatever way it is asked to, it removes its own; killed, it leaves them to
// the next start, which removes what is provably theirs and nothing else.

#include <fcntl.h>
#include <sys/file.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <string>

#include "harness/lockfile.h"
#include "harness/mirror_test.h"
#include "harness/program.h"
#include "harness/users.h"

namespace flockfs::test {
namespace {

const std::string kRecords = "/run/flockfs";

class LockFileEndTest : public PassthroughTest {
 protected:
  LockFileEndTest() { cover_record_directory(); }
  void SetUp() override {
    write_file(source("f"), "contents");
    make_dir(source("d"));
    write_file(source("d/g"), "contents");
  }
  MountedMirror& mount_with(std::vector<std::string> options = {}) {
    options.insert(options.begin(), "lock=flock+lockfile");
    return mount({.options = options});
  }
  // A mirror that was killed while a client wrote both files.
  void leave_lock_files() {
    mount_with();
    {
      Opener one(mnt("f"), O_RDWR);
      Opener other(mnt("d/g"), O_RDWR);
      ASSERT_TRUE(one.opens() && other.opens());
      ::kill(mirror().daemon(), SIGKILL);
      ASSERT_TRUE(mirror().daemon_exit());
    }
    EXPECT_TRUE(eventually([&] { return mirror().unmount() == 0; }));
    unmount();
    ASSERT_TRUE(exists(source("f.lock")) && exists(source("d/g.lock")));
    ASSERT_EQ(lock_file_records().size(), 1u);
  }
  void start_and_stop(std::vector<std::string> options = {"lock=flock+lockfile"}) {
    mount({.options = std::move(options)});
    unmount();
  }
  [[nodiscard]] std::string record() const { return kRecords + "/" + lock_file_records().at(0); }
};
INSTANTIATE_TEST_SUITE_P(Mount, LockFileEndTest, BothPassthroughs(), passthrough_name);

TEST_P(LockFileEndTest, SignalsRemoveOurs) {
  for (const int number : {SIGTERM, SIGINT, SIGHUP}) {
    mount_with({"stop_timeout=100"});
    Opener writer(mnt("f"), O_RDWR);
    ASSERT_TRUE(writer.opens());
    ASSERT_TRUE(exists(source("f.lock")));
    ::kill(mirror().daemon(), number);
    EXPECT_EQ(mirror().daemon_exit(), 0);
    EXPECT_FALSE(exists(source("f.lock"))) << number;
    EXPECT_TRUE(list_dir(kRecords).empty());
    unmount();
  }
}

TEST_P(LockFileEndTest, UnmountsRemoveOurs) {
  mount_with();
  {
    Opener writer(mnt("f"), O_RDWR);
    ASSERT_TRUE(writer.opens());
    EXPECT_EQ(mirror().unmount(MNT_DETACH), 0);
    EXPECT_TRUE(log().wait_for({.event = "detached"}));
    EXPECT_TRUE(exists(source("f.lock"))) << "it is still open";
    writer.close();
    EXPECT_TRUE(goes_away(source("f.lock")));
    EXPECT_EQ(mirror().daemon_exit(), 0);
  }
  unmount();
  mount_with();
  Opener writer(mnt("f"), O_RDWR);
  ASSERT_TRUE(writer.opens());
  (void)mirror().unmount(MNT_FORCE);  // EBUSY, but the connection is gone
  EXPECT_EQ(mirror().daemon_exit(), 0);
  EXPECT_FALSE(exists(source("f.lock")));
}

TEST_P(LockFileEndTest, KilledClientsLeaveNone) {
  mount_with();
  Opener writer(mnt("f"), O_RDWR);
  ASSERT_TRUE(writer.opens());
  writer.child().signal(SIGKILL);
  EXPECT_TRUE(goes_away(source("f.lock")));
}

TEST_P(LockFileEndTest, NextStartRemovesWhatWasLeft) {
  for (const std::string option : {"lock=flock+lockfile", "lock=flock"}) {
    leave_lock_files();
    start_and_stop({option});
    EXPECT_FALSE(exists(source("f.lock")));
    EXPECT_FALSE(exists(source("d/g.lock")));
    EXPECT_TRUE(list_dir(kRecords).empty());
    EXPECT_EQ(read_file(source("f")), "contents");
  }
}

TEST_P(LockFileEndTest, WhatIsNotProvablyOursStays) {
  leave_lock_files();
  ASSERT_EQ(::unlink(source("f.lock").c_str()), 0);
  write_file(source("f.lock"), "");         // somebody else's of the same name, perhaps of the same inode number
  write_file(source("d/g.lock"), "taken");  // the same object, in use by another
  start_and_stop();
  EXPECT_TRUE(exists(source("f.lock")));
  EXPECT_TRUE(exists(source("d/g.lock")));
  EXPECT_TRUE(list_dir(kRecords).empty());
}

TEST_P(LockFileEndTest, WhatBelongsToALivingMirrorStays) {
  mount_with();
  Opener writer(mnt("f"), O_RDWR);
  ASSERT_TRUE(writer.opens());
  {
    MountedMirror other(source(), folder("mnt2"), folder("scratch2"), {.options = {"lock=flock+lockfile"}});
    EXPECT_TRUE(exists(source("f.lock")));
    EXPECT_EQ(lock_file_records().size(), 2u);
    other.stop();
  }
  EXPECT_TRUE(exists(source("f.lock")));
  writer.close();
  EXPECT_TRUE(goes_away(source("f.lock")));
}

TEST_P(LockFileEndTest, AnotherSourcesLeftoversAreItsOwn) {
  leave_lock_files();
  MountedMirror other(folder("source2"), folder("mnt2"), folder("scratch2"), {.options = {"lock=flock+lockfile"}});
  other.stop();
  EXPECT_TRUE(exists(source("f.lock")));
  EXPECT_EQ(lock_file_records().size(), 1u);
  start_and_stop();
  EXPECT_FALSE(exists(source("f.lock")));
}

TEST_P(LockFileEndTest, ReadOnlyMirrorLeavesThemToTheNext) {
  leave_lock_files();
  start_and_stop({"lock=flock+lockfile", "ro"});
  EXPECT_TRUE(exists(source("f.lock")));
  start_and_stop();
  EXPECT_FALSE(exists(source("f.lock")));
}

// A directory that somebody has replaced by a symlink leads nowhere.
TEST_P(LockFileEndTest, NoSymlinkIsFollowedToALeftover) {
  leave_lock_files();
  const std::string elsewhere = folder("elsewhere");
  ASSERT_EQ(::rename(source("d/g.lock").c_str(), (elsewhere + "/g.lock").c_str()), 0);
  ASSERT_EQ(::unlink(source("d/g").c_str()), 0);
  ASSERT_EQ(::rmdir(source("d").c_str()), 0);
  ASSERT_EQ(::symlink(elsewhere.c_str(), source("d").c_str()), 0);
  ASSERT_EQ(::unlink(source("f.lock").c_str()), 0);
  ASSERT_EQ(::symlink("f", source("f.lock").c_str()), 0);
  start_and_stop();
  EXPECT_TRUE(exists(elsewhere + "/g.lock"));
  EXPECT_TRUE(exists(source("f.lock")));
  EXPECT_EQ(read_file(source("f")), "contents");
}

TEST_P(LockFileEndTest, SpoiltRecordsDoNoHarm) {
  leave_lock_files();
  const std::string name = record();
  const std::string text = read_file(name);
  write_file(kRecords + "/lockfiles.empty", "", 0600);
  write_file(kRecords + "/lockfiles.noise", std::string(1 << 20, '\xff'), 0600);
  ASSERT_EQ(::symlink("/etc/passwd", (kRecords + "/lockfiles.link").c_str()), 0);
  ASSERT_EQ(::mkfifo((kRecords + "/lockfiles.fifo").c_str(), 0600), 0);
  make_dir(kRecords + "/lockfiles.dir");
  write_file(kRecords + "/lockfiles.others", text, 0600);
  ASSERT_EQ(::chown((kRecords + "/lockfiles.others").c_str(), kStranger, kStrangerGroup), 0);
  write_file(name, text + "\n+ 0 1 1 - 2e2e 782e6c6f636b .\n\n+ 0 1" + std::string(100'000, '\n'), 0600);
  start_and_stop();
  EXPECT_FALSE(exists(source("f.lock")));
  EXPECT_FALSE(exists(source("d/g.lock")));
  EXPECT_FALSE(exists(name));
  EXPECT_TRUE(exists(kRecords + "/lockfiles.others"));
}

TEST_P(LockFileEndTest, RecordIsWrittenAnewBeforeItGrowsTooLong) {
  mount_with({"log_level=warning"});
  Opener writer(mnt("d/g"), O_RDWR);
  ASSERT_TRUE(writer.opens());
  const std::string first = record();
  EXPECT_TRUE(in_child(
      [&] {
        for (int round = 0; round < 4000; ++round) ASSERT_EQ(open_error(mnt("f"), O_WRONLY), 0);
      },
      kPatience * 10));
  EXPECT_TRUE(eventually([&] { return lock_file_records().size() == 1; }));
  EXPECT_NE(record(), first);
  EXPECT_LT(stat_of(record()).st_size, 100'000);
  ::kill(mirror().daemon(), SIGKILL);
  ASSERT_TRUE(mirror().daemon_exit());
  writer.close();
  EXPECT_TRUE(eventually([&] { return mirror().unmount() == 0; }));
  unmount();
  ASSERT_TRUE(exists(source("d/g.lock")));
  start_and_stop();
  EXPECT_FALSE(exists(source("d/g.lock"))) << "made before the record was written anew";
}

TEST_P(LockFileEndTest, WhatCannotBeRecordedIsNotMade) {
  ASSERT_EQ(::mount("tmpfs", kRecords.c_str(), "tmpfs", 0, "mode=0700,size=4k"), 0);
  mount_with().expect_error("op=lockfile");
  EXPECT_TRUE(in_child([&] {
    int error = 0;
    for (int round = 0; round < 1000 && error == 0; ++round) error = open_error(mnt("f"), O_WRONLY);
    EXPECT_EQ(errno_name(error), "ENOSPC");
  }));
  EXPECT_TRUE(goes_away(source("f.lock")));
  EXPECT_TRUE(has_flocks(source("f"), 0));
}

TEST_P(LockFileEndTest, RecordsAreKeptFromOthers) {
  ASSERT_EQ(::chmod(kRecords.c_str(), 0755), 0);
  mount_with();
  EXPECT_EQ(stat_of(kRecords).st_mode & 07777, 0700u);
  EXPECT_EQ(stat_of(record()).st_mode & 07777, 0600u);
  unmount();
  ASSERT_EQ(::umount2(kRecords.c_str(), 0), 0);
  cover_record_directory();
  ASSERT_EQ(::chown(kRecords.c_str(), kStranger, 0), 0);
  const auto result = run_program({flockfs_program(), "-f", "-o", "lock=flock+lockfile", source(), mnt()});
  EXPECT_EQ(result.exit_code, 1) << result;
  EXPECT_NE(result.err.find("record of lock files is somebody else's"), std::string::npos) << result;
}

}  // namespace
}  // namespace flockfs::test
