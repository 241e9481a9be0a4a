// lock=...+lockfile (DESIGN 1.10): a writer also holds FILE.lock in the source, as git does.

#include "harness/lockfile.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <string>

#include "harness/crowd.h"
#include "harness/mirror_test.h"
#include "harness/users.h"

namespace flockfs::test {
namespace {

class LockFileTest : public PassthroughTest {
 protected:
  LockFileTest() { cover_record_directory(); }
  void SetUp() override { write_file(source("f"), "contents"); }
  MountedMirror& mount_with(std::vector<std::string> options = {}) {
    options.insert(options.begin(), "lock=flock+lockfile");
    return mount({.options = options});
  }
  [[nodiscard]] ::testing::AssertionResult goes(const std::string& name) const { return goes_away(source(name)); }
};
INSTANTIATE_TEST_SUITE_P(Mount, LockFileTest, BothPassthroughs(), passthrough_name);

TEST_P(LockFileTest, WriterHoldsItFromOpenToLastClose) {
  mount_with();
  for (const int flags : {O_WRONLY, O_RDWR, O_WRONLY | O_APPEND, O_RDWR | O_TRUNC, O_RDONLY | O_TRUNC}) {
    Opener writer(mnt("f"), flags);
    ASSERT_TRUE(writer.opens());
    ASSERT_TRUE(exists(source("f.lock"))) << flags;
    EXPECT_EQ(stat_of(source("f.lock")).st_size, 0);
    EXPECT_EQ(source_lock(source("f")), LockSeen::kExclusive);
    writer.close();
    EXPECT_TRUE(goes("f.lock")) << flags;
  }
}

TEST_P(LockFileTest, ReaderHasNoneAndMindsNone) {
  mount_with({"timeout=0"});
  Opener reader(mnt("f"), O_RDONLY);
  ASSERT_TRUE(reader.opens());
  EXPECT_FALSE(exists(source("f.lock")));
  reader.close();
  write_file(source("f.lock"), "");
  EXPECT_TRUE(in_child([&] { EXPECT_EQ(read_file(mnt("f")), "contents"); }));
  EXPECT_TRUE(exists(source("f.lock")));
}

TEST_P(LockFileTest, WithoutTheOptionThereIsNone) {
  mount();
  write_file(source("f.lock"), "");
  Opener writer(mnt("f"), O_RDWR);
  ASSERT_TRUE(writer.opens());
  writer.close();
  EXPECT_TRUE(exists(source("f.lock")));
}

TEST_P(LockFileTest, DuplicatesAndForksKeepIt) {
  mount_with();
  Child writer([&](Peer& test) {
    UniqueFd fd = open_file(mnt("f"), O_RDWR);
    const UniqueFd copy(::dup(fd.get()));
    const pid_t forked = ::fork();
    if (forked == 0) ::pause();
    fd.reset();
    test.say("one closed");
    test.await("end");
    ::kill(forked, SIGKILL);
  });
  ASSERT_TRUE(writer.says("one closed"));
  EXPECT_EQ(source_lock(source("f")), LockSeen::kExclusive);
  EXPECT_TRUE(exists(source("f.lock")));
  writer.say("end");
  EXPECT_TRUE(writer.ends_well());
  EXPECT_TRUE(goes("f.lock"));
}

TEST_P(LockFileTest, ItGoesBeforeTheLockDoes) {
  mount_with({"timeout=0"});
  EXPECT_TRUE(in_child([&] {
    for (int round = 0; round < 300; ++round) ASSERT_EQ(open_error(mnt("f"), O_RDWR), 0) << round;
  }));
}

TEST_P(LockFileTest, ModeAndOwnerAreTheCallersAsWithGit) {
  ASSERT_EQ(::chmod(source().c_str(), 0777), 0);
  ASSERT_EQ(::chmod(source("f").c_str(), 0666), 0);
  mount_with();
  for (const mode_t umask : {mode_t{027}, mode_t{0}, mode_t{077}}) {
    Opener writer([&] {
      become_user();
      ::umask(umask);
      return ::open(mnt("f").c_str(), O_WRONLY | O_CLOEXEC);
    });
    ASSERT_TRUE(writer.opens());
    const struct stat st = stat_of(source("f.lock"));
    EXPECT_EQ(st.st_mode, S_IFREG | (0666 & ~umask));
    EXPECT_EQ(st.st_uid, kStranger);
    EXPECT_EQ(st.st_gid, kStrangerGroup);
    writer.close();
    EXPECT_TRUE(goes("f.lock"));
  }
}

TEST_P(LockFileTest, WhoMayNotWriteTheDirectoryMayNotWriteTheFile) {
  ASSERT_EQ(::chmod(source("f").c_str(), 0666), 0);
  mount_with().expect_error("op=lockfile");
  EXPECT_TRUE(in_child([&] {
    become_user();
    EXPECT_EQ(errno_name(open_error(mnt("f"), O_WRONLY | O_TRUNC)), "EACCES");
    EXPECT_EQ(::truncate(mnt("f").c_str(), 0), -1);
    EXPECT_EQ(errno_name(errno), "EACCES");
    EXPECT_EQ(read_file(mnt("f")), "contents");
  }));
  EXPECT_TRUE(has_flocks(source("f"), 0));
  EXPECT_FALSE(exists(source("f.lock")));
}

TEST_P(LockFileTest, ASupplementaryGroupIsEnough) {
  ASSERT_EQ(::chown(source().c_str(), 0, kTeam), 0);
  ASSERT_EQ(::chmod(source().c_str(), 0775), 0);
  ASSERT_EQ(::chmod(source("f").c_str(), 0666), 0);
  mount_with();
  EXPECT_TRUE(in_child([&] {
    become_user(kStranger, kStrangerGroup, {kTeam});
    EXPECT_EQ(open_error(mnt("f"), O_WRONLY), 0);
    EXPECT_EQ(::truncate(mnt("f").c_str(), 3), 0);
  }));
  EXPECT_TRUE(goes("f.lock"));
}

TEST_P(LockFileTest, NameWithoutRoomForTheSuffixIsTooLong) {
  const std::string fits(250, 'n');
  const std::string too_long(251, 'n');
  write_file(source(fits), "x");
  write_file(source(too_long), "x");
  mount_with().expect_error("op=lockfile");
  EXPECT_TRUE(in_child([&] {
    EXPECT_EQ(open_error(mnt(fits), O_WRONLY), 0);
    EXPECT_EQ(errno_name(open_error(mnt(too_long), O_WRONLY)), "ENAMETOOLONG");
    EXPECT_EQ(errno_name(open_error(mnt(std::string(252, 'n')), O_WRONLY | O_CREAT)), "ENAMETOOLONG");
    EXPECT_EQ(open_error(mnt(too_long), O_RDONLY), 0);
  }));
  EXPECT_FALSE(exists(source(std::string(252, 'n'))));
  EXPECT_TRUE(has_flocks(source(too_long), 0));
}

TEST_P(LockFileTest, NamesOfLockFilesHaveNone) {
  write_file(source("a.lock"), "");
  mount_with({"timeout=0"});
  EXPECT_TRUE(in_child([&] {
    const UniqueFd present = open_file(mnt("a.lock"), O_RDWR);
    const UniqueFd made = open_file(mnt("b.lock"), O_RDWR | O_CREAT | O_EXCL);
    EXPECT_FALSE(exists(source("a.lock.lock")));
    EXPECT_FALSE(exists(source("b.lock.lock")));
  }));
}

// A client of the mirror that follows git's protocol by itself.
TEST_P(LockFileTest, OursShowsInTheMirrorAsAnyOther) {
  mount_with();
  Opener writer(mnt("f"), O_RDWR);
  ASSERT_TRUE(writer.opens());
  EXPECT_TRUE(in_child([&] {
    EXPECT_EQ(list_dir(mnt()), (std::vector<std::string>{"f", "f.lock"}));
    EXPECT_EQ(errno_name(open_error(mnt("f.lock"), O_RDWR | O_CREAT | O_EXCL)), "EEXIST");
  }));
  writer.close();
  EXPECT_TRUE(goes("f.lock"));
  EXPECT_TRUE(in_child([&] { EXPECT_EQ(open_error(mnt("f.lock"), O_RDWR | O_CREAT | O_EXCL), 0); }));
  Opener waiting(mnt("f"), O_RDWR);
  ASSERT_TRUE(mirror().waits(waiting.pid()));
  EXPECT_TRUE(in_child([&] { EXPECT_EQ(::unlink(mnt("f.lock").c_str()), 0); }));
  EXPECT_TRUE(waiting.opens());
  waiting.close();
}

TEST_P(LockFileTest, AllNamesOfAnInodeOrNone) {
  make_dir(source("d"));
  ASSERT_EQ(::link(source("f").c_str(), source("d/g").c_str()), 0);
  ASSERT_EQ(::link(source("f").c_str(), source("unknown").c_str()), 0);
  mount_with({"timeout=100"});
  const auto know = [&] {
    EXPECT_TRUE(in_child([&] {
      (void)stat_of(mnt("f"));
      (void)stat_of(mnt("d/g"));
    }));
  };
  know();
  Opener writer(mnt("f"), O_RDWR);
  ASSERT_TRUE(writer.opens());
  EXPECT_TRUE(exists(source("f.lock")));
  EXPECT_TRUE(exists(source("d/g.lock")));
  writer.close();
  EXPECT_TRUE(goes("f.lock"));
  EXPECT_TRUE(goes("d/g.lock"));
  for (const std::string name : {"f.lock", "d/g.lock"}) {
    write_file(source(name), "");
    know();
    Opener refused(mnt("f"), O_RDWR);
    EXPECT_TRUE(refused.fails_with(EAGAIN));
    EXPECT_EQ(exists(source("f.lock")) + exists(source("d/g.lock")), 1) << name;
    ASSERT_EQ(::unlink(source(name).c_str()), 0);
  }
}

TEST_P(LockFileTest, CreatedFileHasOneFromTheStart) {
  mount_with();
  Opener maker(mnt("new\nname"), O_RDWR | O_CREAT | O_EXCL);
  ASSERT_TRUE(maker.opens());
  EXPECT_TRUE(exists(source("new\nname.lock")));
  EXPECT_EQ(source_lock(source("new\nname")), LockSeen::kExclusive);
  maker.close();
  EXPECT_TRUE(goes("new\nname.lock"));
  EXPECT_TRUE(exists(source("new\nname")));
  Opener reader(mnt("read"), O_RDONLY | O_CREAT);
  ASSERT_TRUE(reader.opens());
  EXPECT_FALSE(exists(source("read.lock")));
  reader.close();
  EXPECT_TRUE(in_child([&] {
    const UniqueFd unnamed = open_file(mnt(), O_RDWR | O_TMPFILE);
    EXPECT_EQ(list_dir(source()), (std::vector<std::string>{"f", "new\nname", "read"}));
  }));
}

TEST_P(LockFileTest, CreationCannotWait) {
  mount_with();
  write_file(source("new.lock"), "");
  for (int round = 0; round < 3; ++round) {
    Opener maker(mnt("new"), O_RDWR | O_CREAT);
    EXPECT_TRUE(maker.fails_with(EAGAIN));
    EXPECT_FALSE(exists(source("new")));
    EXPECT_TRUE(exists(source("new.lock")));
  }
  EXPECT_TRUE(log().wait_for({.event = "timeout", .path = source("new.lock")})) << log().text();
  ASSERT_EQ(::unlink(source("new.lock").c_str()), 0);
  EXPECT_TRUE(in_child([&] { write_file(mnt("new"), "made"); }));
  EXPECT_TRUE(goes("new.lock"));
}

TEST_P(LockFileTest, TruncationByPathIsAWriter) {
  mount_with();
  write_file(source("f.lock"), "");
  Child patient([&](Peer& test) { test.say(::truncate(mnt("f").c_str(), 3) == 0 ? "done" : errno_name(errno)); });
  ASSERT_TRUE(mirror().waits(patient.pid()));
  EXPECT_EQ(stat_of(source("f")).st_size, 8);
  EXPECT_TRUE(becomes_free(source("f")));
  ASSERT_EQ(::unlink(source("f.lock").c_str()), 0);
  EXPECT_TRUE(patient.says("done"));
  EXPECT_EQ(read_file(source("f")), "con");
  EXPECT_TRUE(goes("f.lock"));
}

TEST_P(LockFileTest, WhatIsNotSelectedHasNone) {
  write_file(source("passed"), "x");
  mount_with({"exclude=" + source("passed")});
  Opener writer(mnt("passed"), O_RDWR);
  ASSERT_TRUE(writer.opens());
  EXPECT_FALSE(exists(source("passed.lock")));
  writer.close();
}

TEST_P(LockFileTest, FullDiskFailsTheOpenAndLeavesNothing) {
  ASSERT_EQ(::mount("tmpfs", source().c_str(), "tmpfs", 0, "mode=0755,nr_inodes=4"), 0);
  for (const char* const name : {"a", "b", "c"}) write_file(source(name), "x");
  mount_with().expect_error("op=lockfile");
  EXPECT_TRUE(in_child([&] {
    EXPECT_EQ(errno_name(open_error(mnt("a"), O_RDWR | O_TRUNC)), "ENOSPC");
    EXPECT_EQ(read_file(mnt("a")), "x");
  }));
  EXPECT_TRUE(has_flocks(source("a"), 0));
  ASSERT_EQ(::unlink(source("c").c_str()), 0);
  EXPECT_TRUE(in_child([&] { EXPECT_EQ(open_error(mnt("a"), O_RDWR), 0); }));
  EXPECT_TRUE(goes("a.lock"));
}

TEST_P(LockFileTest, AnothersIsNeverRemoved) {
  mount_with();
  Opener writer(mnt("f"), O_RDWR);
  ASSERT_TRUE(writer.opens());
  ASSERT_EQ(::unlink(source("f.lock").c_str()), 0);
  write_file(source("f.lock"), "");
  writer.close();
  EXPECT_TRUE(log().wait_for({.event = "lockfile", .path = source("f.lock"), .reason = "replaced"})) << log().text();
  EXPECT_TRUE(exists(source("f.lock")));
  ASSERT_EQ(::unlink(source("f.lock").c_str()), 0);

  Opener robbed(mnt("f"), O_RDWR);
  ASSERT_TRUE(robbed.opens());
  ASSERT_EQ(::unlink(source("f.lock").c_str()), 0);
  ASSERT_EQ(::symlink("f", source("f.lock").c_str()), 0);
  robbed.close();
  EXPECT_TRUE(log().wait_for_count({.event = "lockfile", .reason = "replaced"}, 2)) << log().text();
  EXPECT_TRUE(exists(source("f.lock")));
  EXPECT_EQ(read_file(source("f")), "contents");
}

// By the directory it was made in, wherever that is by then.
TEST_P(LockFileTest, ItIsFoundAfterItsDirectoryWasMoved) {
  make_dir(source("d"));
  write_file(source("d/x"), "x");
  mount_with();
  for (const bool through_mirror : {true, false}) {
    Opener writer(mnt("d/x"), O_RDWR);
    ASSERT_TRUE(writer.opens());
    if (through_mirror) {
      EXPECT_TRUE(in_child([&] { EXPECT_EQ(::rename(mnt("d").c_str(), mnt("e").c_str()), 0); }));
    } else {
      ASSERT_EQ(::rename(source("d").c_str(), source("e").c_str()), 0);
    }
    EXPECT_TRUE(exists(source("e/x.lock")));
    writer.close();
    EXPECT_TRUE(goes("e/x.lock"));
    ASSERT_EQ(::rename(source("e").c_str(), source("d").c_str()), 0);
  }
  Opener writer(mnt("d/x"), O_RDWR);
  ASSERT_TRUE(writer.opens());
  EXPECT_TRUE(in_child([&] { EXPECT_EQ(::rename(mnt("d/x").c_str(), mnt("d/y").c_str()), 0); }));
  writer.close();
  EXPECT_TRUE(goes("d/x.lock"));
  EXPECT_EQ(list_dir(source("d")), std::vector<std::string>{"y"});
}

// Two mirrors of one source, whose clients exclude each other by lock files alone, their inodes being replaced.
TEST_P(LockFileTest, ManyWritersOfTwoMirrorsLoseNothing) {
  write_file(source("counter"), "0");
  mount_with();
  const std::string second = folder("mnt2");
  MountedMirror other(source(), second, folder("scratch2"), {.options = {"lock=ofd+lockfile"}});
  Crowd crowd(8, [&](int index) {
    const std::string dir = index % 2 == 0 ? mnt() : second;
    for (int round = 0; round < 10; ++round) {
      const UniqueFd fd(::open((dir + "/counter").c_str(), O_RDWR | O_CLOEXEC));
      if (!fd) return errno;
      const std::string next = std::to_string(std::stoi(read_all(fd.get())) + 1);
      if (::pwrite(fd.get(), next.data(), next.size(), 0) != static_cast<ssize_t>(next.size())) return EIO;
    }
    return 0;
  });
  EXPECT_TRUE(crowd.all_succeed(kPatience * 10));
  EXPECT_EQ(read_file(source("counter")), "80");
  EXPECT_TRUE(goes("counter.lock"));
  other.stop();
}

}  // namespace
}  // namespace flockfs::test
