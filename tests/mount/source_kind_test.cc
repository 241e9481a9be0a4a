// Sources of other kinds than ext4: what the mirror stands on differs there (no file handles on overlayfs, no O_TMPFILE
// and opens that can block on a FUSE file system), and the contract must not.

#include <fcntl.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <map>
#include <string>
#include <vector>

#include "harness/connection.h"
#include "harness/crowd.h"
#include "harness/faults.h"
#include "harness/file_systems.h"
#include "harness/mirror_test.h"
#include "harness/program.h"
#include "harness/record_client.h"
#include "harness/users.h"
#include "harness/watcher.h"

namespace flockfs::test {
namespace {

enum class Kind { kTmpfs, kOverlay, kFuse, kNoTmpfile };

class SourceKindTest : public MirrorTest, public ::testing::WithParamInterface<Kind> {
 protected:
  void SetUp() override {
    switch (GetParam()) {
      case Kind::kTmpfs:
        ASSERT_EQ(mount_tmpfs(source()), 0);
        break;
      case Kind::kOverlay: {
        const std::string lower = folder("lower");
        write_file(lower + "/from-below", "contents");
        ASSERT_EQ(mount_overlay(lower, folder("upper"), folder("work"), source()), 0);
        break;
      }
      case Kind::kFuse: {
        if (find_program("bindfs").empty()) GTEST_SKIP() << "no bindfs here";
        const auto result = run_program({"bindfs", folder("below"), source()});
        ASSERT_EQ(result.exit_code, 0) << result;
        break;
      }
      case Kind::kNoTmpfile:
        break;
    }
    make_dir(source("d"));
    write_file(source("d/f"), "contents");
    MirrorSetup setup;
    if (GetParam() == Kind::kNoTmpfile) setup.program.before_exec = make_tmpfile_fail;
    mount(setup);
  }
};
INSTANTIATE_TEST_SUITE_P(Mount, SourceKindTest,
                         ::testing::Values(Kind::kTmpfs, Kind::kOverlay, Kind::kFuse, Kind::kNoTmpfile),
                         [](const ::testing::TestParamInfo<Kind>& kind) {
                           return kind.param == Kind::kTmpfs     ? "Tmpfs"
                                  : kind.param == Kind::kOverlay ? "Overlay"
                                  : kind.param == Kind::kFuse    ? "Fuse"
                                                                 : "NoTmpfile";
                         });

TEST_P(SourceKindTest, OpensLockAndWait) {
  for (const int flags : {O_RDONLY, O_RDWR, O_WRONLY | O_TRUNC | O_CREAT}) {
    SCOPED_TRACE(flags);
    ForeignLock foreign(source("d/f"), LOCK_EX);
    Opener opener(mnt("d/f"), flags);
    ASSERT_TRUE(mirror().waits(opener.pid()));
    EXPECT_TRUE(opener.is_waiting());
    foreign.release();
    ASSERT_TRUE(opener.opens());
    EXPECT_EQ(source_lock(source("d/f")), flags == O_RDONLY ? LockSeen::kShared : LockSeen::kExclusive);
    opener.close();
    EXPECT_TRUE(becomes_free(source("d/f")));
  }
}

// Whether a name can be given to a file that is locked already, in any way that keeps it the same file.
bool can_name_a_locked_file(const std::string& dir) {
  write_file(dir + "/probe", "");
  const bool can =
      ::renameat2(AT_FDCWD, (dir + "/probe").c_str(), AT_FDCWD, (dir + "/renamed").c_str(), RENAME_NOREPLACE) == 0;
  ::unlink((dir + (can ? "/renamed" : "/probe")).c_str());
  return can;
}

TEST_P(SourceKindTest, CreatedFilesAreNeverSeenUnlocked) {
  // A bindfs made with libfuse 2 has no O_TMPFILE, no RENAME_NOREPLACE, and makes of each hard link a file of its own.
  if (!can_name_a_locked_file(source("d"))) GTEST_SKIP() << "the source has no way to do that";
  EXPECT_EQ(names_seen_unlocked(mnt("d"), source("d"), 60), 0);
  EXPECT_EQ(list_dir(source("d")).size(), 61u);  // and no name but theirs
}

TEST_P(SourceKindTest, CreatedFilesBelongToTheCallerAndToItsMode) {
  ASSERT_EQ(::chmod(source("d").c_str(), 0777), 0);
  EXPECT_TRUE(in_child([&] {
    become_user();
    ::umask(0027);
    write_file(mnt("d/new"), "text", 0666);
    EXPECT_EQ(open_error(mnt("d/excl"), O_RDWR | O_CREAT | O_EXCL, 0777), 0);
    EXPECT_EQ(open_error(mnt("d/excl"), O_RDWR | O_CREAT | O_EXCL, 0777), EEXIST);
  }));
  const struct stat status = stat_of(source("d/new"));
  EXPECT_EQ(status.st_uid, kStranger);
  EXPECT_EQ(status.st_gid, kStrangerGroup);
  EXPECT_EQ(status.st_mode & 07777, 0640u);
  EXPECT_EQ(stat_of(source("d/excl")).st_mode & 07777, 0750u);
  EXPECT_EQ(read_file(source("d/new")), "text");
}

TEST_P(SourceKindTest, WaitingOpensHarmNobody) {
  ForeignLock foreign(source("d/f"), LOCK_EX);
  Crowd crowd(60, [&](int index) { return open_error(mnt("d/f"), index % 2 == 0 ? O_RDONLY : O_RDWR); });
  ASSERT_TRUE(mirror().waits_for(source("d/f"), 60));
  EXPECT_TRUE(in_child([&] {
    EXPECT_EQ(list_dir(mnt("d")).size(), 1u);
    write_file(mnt("d/other"), "text");
    EXPECT_EQ(read_file(mnt("d/other")), "text");
    EXPECT_EQ(::rename(mnt("d/other").c_str(), mnt("d/renamed").c_str()), 0);
    EXPECT_EQ(::unlink(mnt("d/renamed").c_str()), 0);
  }));
  EXPECT_EQ(crowd.finished(), 0);
  foreign.release();
  EXPECT_TRUE(crowd.all_succeed());
}

TEST_P(SourceKindTest, OpensSeeWhatTheLastHolderWrote) {
  EXPECT_TRUE(in_child([&] {
    for (int round = 0; round < 20; ++round) {
      (void)stat_of(mnt("d/f"));
      append_file(source("d/f"), "more");
      const UniqueFd fd = open_file(mnt("d/f"), O_RDONLY);
      struct stat status {};
      ASSERT_EQ(::fstat(fd.get(), &status), 0);
      EXPECT_EQ(status.st_size, 8 + 4 * (round + 1));
      EXPECT_EQ(read_all(fd.get()).size(), static_cast<std::size_t>(status.st_size));
    }
    write_file(source("d/new"), "the new one");
    EXPECT_EQ(::rename(source("d/new").c_str(), source("d/f").c_str()), 0);
    EXPECT_EQ(read_file(mnt("d/f")), "the new one");
  }));
}

TEST_P(SourceKindTest, MappingKeepsTheLock) {
  Child child([&](Peer& test) {
    UniqueFd fd = open_file(mnt("d/f"), O_RDONLY);
    void* map = ::mmap(nullptr, 8, PROT_READ, MAP_SHARED, fd.get(), 0);
    ASSERT_NE(map, MAP_FAILED);
    fd.reset();
    test.say("mapped");
    test.await("unmap");
    ::munmap(map, 8);
    test.say("unmapped");
    test.await("end");
  });
  ASSERT_TRUE(child.says("mapped"));
  pause_for(Millis(200));
  EXPECT_EQ(source_lock(source("d/f")), LockSeen::kShared);
  child.say("unmap");
  ASSERT_TRUE(child.says("unmapped"));
  EXPECT_TRUE(becomes_free(source("d/f")));
}

TEST_P(SourceKindTest, ManyFilesAreListedReadAndRemoved) {
  EXPECT_TRUE(in_child(
      [&] {
        for (int i = 0; i < 300; ++i) write_file(mnt("d/file" + std::to_string(i)), std::to_string(i));
        EXPECT_EQ(list_dir(mnt("d")).size(), 301u);
        for (int i = 0; i < 300; ++i) {
          const std::string path = mnt("d/file" + std::to_string(i));
          EXPECT_EQ(read_file(path), std::to_string(i));
          EXPECT_EQ(::unlink(path.c_str()), 0);
        }
      },
      kPatience * 2));
  EXPECT_EQ(list_dir(source("d")), std::vector<std::string>{"f"});
}

TEST_P(SourceKindTest, UnlinkedFileStaysUsableWhileOpen) {
  if (GetParam() == Kind::kFuse) GTEST_SKIP() << "bindfs itself renames such files";
  EXPECT_TRUE(in_child([&] {
    const UniqueFd fd = open_file(mnt("d/f"), O_RDWR);
    EXPECT_EQ(::unlink(mnt("d/f").c_str()), 0);
    EXPECT_EQ(::pwrite(fd.get(), "CONT", 4, 0), 4);
    EXPECT_EQ(read_all(fd.get()), "CONTents");
    EXPECT_EQ(::ftruncate(fd.get(), 4), 0);
  }));
}

TEST_P(SourceKindTest, RecordLocksOfClientsExcludeAndWait) {
  RecordClient inside;
  RecordClient outside;
  const int fd = inside.open(mnt("d/f"), O_RDWR);
  const int out = outside.open(source("d/f"), O_RDWR);
  ASSERT_EQ(inside.set(fd, F_WRLCK, {0, 10}), 0);
  EXPECT_EQ(outside.set(out, F_RDLCK, {5, 10}), EAGAIN);
  ASSERT_EQ(outside.set(out, F_WRLCK, {10, 10}), 0);
  EXPECT_EQ(inside.set(fd, F_WRLCK, {10, 1}, RecordKind::kOfd), EAGAIN);
  EXPECT_EQ(inside.query(fd, F_RDLCK, {12, 1}), "write 10 10 " + std::to_string(outside.pid()));
  inside.begin_wait(fd, F_WRLCK);
  ASSERT_TRUE(record_waiters(source("d/f"), 1));
  ASSERT_EQ(outside.set(out, F_UNLCK), 0);
  EXPECT_TRUE(inside.wait_ends());
  inside.close(fd);
  EXPECT_TRUE(record_becomes_free(source("d/f")));
}

// overlayfs copies a file up at its first opening for writing: it is another file then, with another lock.
TEST_P(SourceKindTest, FileOfALowerLayerIsLockedAndChanged) {
  if (GetParam() != Kind::kOverlay) GTEST_SKIP() << "only overlayfs has layers";
  ForeignLock foreign(source("from-below"), LOCK_SH);
  Opener writer(mnt("from-below"), O_RDWR);
  ASSERT_TRUE(mirror().waits(writer.pid()));
  foreign.release();
  ASSERT_TRUE(writer.opens());
  EXPECT_TRUE(writer.write("CONTENTS"));
  EXPECT_EQ(source_lock(source("from-below")), LockSeen::kExclusive);
  writer.close();
  EXPECT_EQ(read_file(source("from-below")), "CONTENTS");
}

class KernelFilesTest : public MirrorTest {};

// What the kernel shows as files means nothing in a backup, and opening it can act.
TEST_F(KernelFilesTest, FileSystemsOfTheKernelAreShownEmptyAndNamedOnce) {
  const std::vector<std::string> names{"cgroup", "proc", "sys"};
  make_dir(source("d"));
  for (const std::string& name : names) make_dir(source("d/" + name));
  ASSERT_EQ(::mount("/proc", source("d/proc").c_str(), nullptr, MS_BIND, nullptr), 0);
  ASSERT_EQ(::mount("/sys", source("d/sys").c_str(), nullptr, MS_BIND, nullptr), 0);
  ASSERT_EQ(::mount("cgroup2", source("d/cgroup").c_str(), "cgroup2", 0, nullptr), 0) << errno_name(errno);
  const std::map<std::string, std::string> inside{{"cgroup", "cgroup.procs"}, {"proc", "version"}, {"sys", "kernel"}};
  for (const auto& [name, file] : inside) ASSERT_TRUE(exists(source("d/" + name + "/" + file))) << name;
  mount();
  EXPECT_TRUE(in_child([&] {
    for (int round = 0; round < 2; ++round) {
      EXPECT_EQ(list_dir(mnt("d")), names);
      for (const auto& [name, file] : inside) {
        const std::string path = mnt("d/" + name);
        EXPECT_EQ(list_dir(path), std::vector<std::string>{}) << name;
        EXPECT_EQ(open_error(path + "/" + file, O_RDONLY), ENOENT) << name;
        EXPECT_NE(open_error(path + "/new", O_WRONLY | O_CREAT), 0) << name;
      }
    }
  }));
  ASSERT_TRUE(log().wait_for_count({.event = "empty"}, names.size())) << log().text();
  for (const std::string& name : names) {
    const auto lines = log().matching({.event = "empty", .path = source("d/" + name)});
    ASSERT_EQ(lines.size(), 1u) << log().text();
    EXPECT_EQ(lines[0].get("reason"), "kernel_file_system");
  }
}

}  // namespace
}  // namespace flockfs::test
