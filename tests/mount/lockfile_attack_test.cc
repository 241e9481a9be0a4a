// Lock files where somebody makes it hard: names made and removed in haste, a killed daemon in the middle of it,
// sources that cannot do everything, other users.

#include <fcntl.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <string>

#include "harness/crowd.h"
#include "harness/faults.h"
#include "harness/lockfile.h"
#include "harness/mirror_test.h"
#include "harness/program.h"
#include "harness/users.h"

namespace flockfs::test {
namespace {

class LockFileAttackTest : public PassthroughTest {
 protected:
  LockFileAttackTest() { cover_record_directory(); }
  void SetUp() override { write_file(source("f"), "contents"); }
  MountedMirror& mount_with(std::vector<std::string> options = {}) {
    options.insert(options.begin(), "lock=flock+lockfile");
    return mount({.options = options});
  }
  [[nodiscard]] std::string lock_files() const { return run_program({"find", source(), "-name", "*.lock"}).out; }
};
INSTANTIATE_TEST_SUITE_P(Mount, LockFileAttackTest, BothPassthroughs(), passthrough_name);

// RELEASE comes after close(2), and creation cannot wait.
TEST_P(LockFileAttackTest, NameIsMadeAnewAtOnce) {
  mount_with();
  EXPECT_TRUE(in_child(
      [&] {
        for (int round = 0; round < 500; ++round) {
          {
            const UniqueFd fd = open_file(mnt("t"), O_RDWR | O_CREAT | O_EXCL);
            ASSERT_EQ(::write(fd.get(), "x", 1), 1);
            if (round % 5 == 0) {
              ASSERT_NE(::mmap(nullptr, 4096, PROT_READ, MAP_SHARED, fd.get(), 0), MAP_FAILED);
            }
          }
          if (round % 2 == 0) {
            ASSERT_EQ(::unlink(mnt("t").c_str()), 0);
          } else {
            ASSERT_EQ(::rename(mnt("t").c_str(), mnt("u").c_str()), 0);
          }
        }
      },
      kPatience * 4));
  EXPECT_TRUE(eventually([&] { return lock_files().empty(); })) << lock_files();
  EXPECT_EQ(log().count({.event = "timeout"}), 0u);
}

// What logrotate does to a log that is being written, and what the writer does then.
TEST_P(LockFileAttackTest, RenamedWhileOpenIsInNobodysWay) {
  mount_with();
  Opener writer(mnt("f"), O_WRONLY | O_APPEND);
  ASSERT_TRUE(writer.opens());
  EXPECT_TRUE(in_child([&] {
    ASSERT_EQ(::rename(mnt("f").c_str(), mnt("f.1").c_str()), 0);
    write_file(mnt("f"), "new");
    const UniqueFd fd = open_file(mnt("f"), O_WRONLY | O_APPEND);
    EXPECT_TRUE(exists(source("f.lock")));
  }));
  EXPECT_TRUE(eventually([&] { return source_lock(source("f")) == LockSeen::kFree; }));
  EXPECT_TRUE(exists(source("f.lock"))) << "the first still has it";
  writer.close();
  EXPECT_TRUE(eventually([&] { return lock_files().empty(); })) << lock_files();
}

TEST_P(LockFileAttackTest, NewWriterTakesOverFromTheOneWhoseFileWasRenamed) {
  mount_with();
  Opener first(mnt("f"), O_WRONLY);
  ASSERT_TRUE(first.opens());
  EXPECT_TRUE(in_child([&] { ASSERT_EQ(::rename(mnt("f").c_str(), mnt("g").c_str()), 0); }));
  Opener second(mnt("f"), O_WRONLY | O_CREAT);
  ASSERT_TRUE(second.opens());
  first.close();
  EXPECT_TRUE(becomes_free(source("g")));
  EXPECT_TRUE(exists(source("f.lock")));
  second.close();
  EXPECT_TRUE(goes_away(source("f.lock")));
}

// Whatever the daemon was about to do: what it leaves is found by the next start.
TEST_P(LockFileAttackTest, KilledUnderLoadLeavesNothingToTheSecondStart) {
  constexpr int kFiles = 5;
  make_dir(source("d"));
  for (int i = 0; i < kFiles; ++i) write_file(source("d/x" + std::to_string(i)), "x");
  bool left = false;
  for (int round = 0; round < 6; ++round) {
    mount_with({"log_level=warning"});
    Crowd crowd(6, [&](int index) {
      for (int i = index;; ++i) {
        const std::string number = std::to_string(i % kFiles);
        const UniqueFd one(::open(mnt("d/x" + number).c_str(), O_RDWR | O_CLOEXEC));
        const UniqueFd other(::open(mnt("new" + number + std::to_string(index)).c_str(), O_RDWR | O_CREAT, 0644));
        if (one && other) ::unlink(mnt("new" + number + std::to_string(index)).c_str());
      }
      return 0;
    });
    pause_for(Millis(60 + 17 * round));
    ::kill(mirror().daemon(), SIGKILL);
    ASSERT_TRUE(mirror().daemon_exit());
    crowd.signal(SIGKILL);
    EXPECT_TRUE(crowd.all_gone());
    left = left || !lock_files().empty();
    EXPECT_TRUE(eventually([&] { return mirror().unmount() == 0; }));
    unmount();
    mount();
    EXPECT_EQ(lock_files(), "") << round;
    EXPECT_TRUE(lock_file_records().empty());
    unmount();
  }
  EXPECT_TRUE(left) << "nothing was tested";
}

TEST_P(LockFileAttackTest, SourceWithoutUnnamedFiles) {
  mount({.options = {"lock=flock+lockfile", "timeout=100"}, .program = {.before_exec = make_tmpfile_fail}});
  Opener writer(mnt("f"), O_RDWR);
  ASSERT_TRUE(writer.opens());
  EXPECT_TRUE(exists(source("f.lock")));
  EXPECT_EQ(stat_of(source("f.lock")).st_mode & 07777, 0644u);
  writer.close();
  EXPECT_TRUE(goes_away(source("f.lock")));
  write_file(source("f.lock"), "");
  Opener refused(mnt("f"), O_RDWR);
  EXPECT_TRUE(refused.fails_with(EAGAIN));
  EXPECT_TRUE(exists(source("f.lock")));
  ASSERT_EQ(::unlink(source("f.lock").c_str()), 0);
  Opener killed(mnt("f"), O_RDWR);
  ASSERT_TRUE(killed.opens());
  ::kill(mirror().daemon(), SIGKILL);
  ASSERT_TRUE(mirror().daemon_exit());
  killed.close();
  EXPECT_TRUE(eventually([&] { return mirror().unmount() == 0; }));
  unmount();
  EXPECT_TRUE(exists(source("f.lock")));
  mount();
  EXPECT_FALSE(exists(source("f.lock")));
}

// A hostile name in the place of ours: nothing is opened, followed or removed.
TEST_P(LockFileAttackTest, WhateverStandsInItsPlaceIsAnothers) {
  mount_with({"timeout=0"});
  write_file(source("target"), "precious");
  const std::string lock = source("f.lock");
  const std::vector<std::pair<const char*, std::function<int()>>> kinds = {
      {"symlink", [&] { return ::symlink("target", lock.c_str()); }},
      {"dangling", [&] { return ::symlink("nowhere", lock.c_str()); }},
      {"fifo", [&] { return ::mkfifo(lock.c_str(), 0666); }},
      {"directory", [&] { return ::mkdir(lock.c_str(), 0755); }},
      {"itself", [&] { return ::link(source("f").c_str(), lock.c_str()); }}};
  for (const auto& [what, make] : kinds) {
    ASSERT_EQ(make(), 0) << what;
    Opener refused(mnt("f"), O_RDWR);
    EXPECT_TRUE(refused.fails_with(EAGAIN)) << what;
    EXPECT_TRUE(exists(lock)) << what;
    ASSERT_EQ(::remove(lock.c_str()), 0);
    Opener writer(mnt("f"), O_RDWR);
    ASSERT_TRUE(writer.opens());
    ASSERT_EQ(::remove(lock.c_str()), 0);
    ASSERT_EQ(make(), 0) << what;
    writer.close();
    EXPECT_TRUE(becomes_free(source("f")));
    EXPECT_TRUE(exists(lock)) << what;
    ASSERT_EQ(::remove(lock.c_str()), 0);
  }
  EXPECT_FALSE(exists(source("nowhere")));
  EXPECT_EQ(read_file(source("target")), "precious");
}

TEST_P(LockFileAttackTest, DirectoryRemovedUnderAWriter) {
  make_dir(source("d"));
  write_file(source("d/x"), "x");
  mount_with();
  Opener writer(mnt("d/x"), O_RDWR);
  ASSERT_TRUE(writer.opens());
  ASSERT_EQ(run_program({"rm", "-r", source("d")}).exit_code, 0);
  EXPECT_TRUE(writer.write("still"));
  writer.close();
  EXPECT_TRUE(log().wait_for({.event = "lockfile", .reason = "gone"})) << log().text();
  EXPECT_TRUE(in_child([&] { EXPECT_EQ(open_error(mnt("f"), O_RDWR), 0); }));
}

// An ordinary user's mirror keeps its record where the session manager has made room for it.
TEST_F(MirrorTest, LockFilesOfAnOrdinaryUser) {
  const std::string runtime = folder("runtime");
  for (const std::string& path : {tree().path(), source(), mnt(), runtime, folder("out")}) {
    ASSERT_EQ(::chown(path.c_str(), kStranger, kStrangerGroup), 0);
  }
  ASSERT_EQ(::chmod(tree().path().c_str(), 0755), 0);
  const auto start = [&](const std::string& directory, const std::string& script) {
    const std::string command = "exec 2>&1; " + flockfs_program() + " -o lock=flock+lockfile " + source() + " " +
                                mnt() + " && { " + script + "; umount " + mnt() + "; }";
    ProgramSetup setup{.environment = {"XDG_RUNTIME_DIR=" + directory}, .before_exec = [] {
                         cover_dev(FuseDevice::kForAll);
                         become_user();
                         enter_own_namespaces();
                       }};
    return run_program({"sh", "-c", command}, setup, Millis(20000));
  };
  ProgramResult result =
      start(runtime, "exec 5>" + mnt("f") + "; ls " + source() + " " + runtime + "/flockfs; exec 5>&-");
  EXPECT_EQ(result.exit_code, 0) << result;
  EXPECT_NE(result.out.find("f.lock"), std::string::npos) << result;
  EXPECT_NE(result.out.find("lockfiles."), std::string::npos) << result;
  EXPECT_TRUE(goes_away(source("f.lock")));
  EXPECT_TRUE(eventually([&] { return list_dir(runtime + "/flockfs").empty(); }));
  EXPECT_EQ(stat_of(runtime + "/flockfs").st_mode & 07777, 0700u);

  result = start("", "true");
  EXPECT_EQ(result.exit_code, 1) << result;
  EXPECT_NE(result.out.find("set XDG_RUNTIME_DIR"), std::string::npos) << result;
  ASSERT_EQ(::rmdir((runtime + "/flockfs").c_str()), 0);
  ASSERT_EQ(::symlink("../source", (runtime + "/flockfs").c_str()), 0);
  result = start(runtime, "true");
  EXPECT_EQ(result.exit_code, 1) << "a symlink is followed: " << result;
  ASSERT_EQ(::unlink((runtime + "/flockfs").c_str()), 0);
  ASSERT_EQ(::chmod(runtime.c_str(), 0777), 0);
  result = start(runtime, "true");
  EXPECT_EQ(result.exit_code, 1) << "others may write there: " << result;
}

}  // namespace
}  // namespace flockfs::test
