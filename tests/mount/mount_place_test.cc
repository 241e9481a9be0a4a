// DESIGN 4.1: mounting over the source itself and inside it works and cannot recurse; submounts that are there at the
// start are seen, later ones are not; the source may be unmounted meanwhile.

#include <fcntl.h>
#include <sys/file.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <memory>
#include <string>

#include "harness/connection.h"
#include "harness/faults.h"
#include "harness/file_systems.h"
#include "harness/mirror_test.h"
#include "harness/program.h"

namespace flockfs::test {
namespace {

class MountPlaceTest : public PassthroughTest {
 protected:
  void SetUp() override {
    make_dir(source("d"));
    write_file(source("d/f"), "contents");
  }
  std::unique_ptr<MountedMirror> mirror_at(const std::string& from, const std::string& to) {
    MirrorSetup setup;
    adapt(setup);
    return std::make_unique<MountedMirror>(from, to, folder("scratch" + std::to_string(++count_)), setup);
  }

 private:
  int count_ = 0;
};
INSTANTIATE_TEST_SUITE_P(Mount, MountPlaceTest, BothPassthroughs(), passthrough_name);

TEST_P(MountPlaceTest, OverTheSourceItself) {
  // The source stays reachable from the side: by a bind mount that was made before.
  const std::string side = folder("side");
  ASSERT_EQ(::mount(source().c_str(), side.c_str(), nullptr, MS_BIND, nullptr), 0);
  const auto mirror = mirror_at(source(), source());
  EXPECT_TRUE(in_child([&] {
    EXPECT_EQ(read_file(source("d/f")), "contents");
    write_file(source("d/new"), "new");
  }));
  EXPECT_EQ(read_file(side + "/d/new"), "new");
  ForeignLock foreign(side + "/d/f", LOCK_EX);
  Opener opener(source("d/f"), O_RDWR);
  ASSERT_TRUE(mirror->waits(opener.pid()));
  foreign.release();
  ASSERT_TRUE(opener.opens());
  EXPECT_EQ(source_lock(side + "/d/f"), LockSeen::kExclusive);
  opener.close();
}

TEST_P(MountPlaceTest, InsideTheSourceDoesNotRecurse) {
  make_dir(source("d/mnt"));
  const auto mirror = mirror_at(source(), source("d/mnt"));
  const auto found = run_program({"find", source("d/mnt"), "-name", "f"});
  EXPECT_EQ(found.exit_code, 0) << found;
  EXPECT_EQ(found.out, source("d/mnt/d/f") + "\n");
  EXPECT_TRUE(in_child([&] {
    EXPECT_TRUE(list_dir(source("d/mnt/d/mnt")).empty());
    EXPECT_EQ(read_file(source("d/mnt/d/f")), "contents");
  }));
  Opener opener(source("d/mnt/d/f"), O_RDWR);
  ASSERT_TRUE(opener.opens());
  EXPECT_EQ(source_lock(source("d/f")), LockSeen::kExclusive);
  opener.close();
}

TEST_P(MountPlaceTest, AboveTheSource) {
  // The mountpoint is a directory in which the source itself lies; it is covered, not lost.
  const std::string side = folder("side");
  ASSERT_EQ(::mount(source().c_str(), side.c_str(), nullptr, MS_BIND, nullptr), 0);
  const auto mirror = mirror_at(source("d"), source());
  EXPECT_TRUE(in_child([&] { EXPECT_EQ(read_file(source("f")), "contents"); }));
  Opener opener(source("f"), O_RDWR);
  ASSERT_TRUE(opener.opens());
  EXPECT_EQ(source_lock(side + "/d/f"), LockSeen::kExclusive);
  opener.close();
}

TEST_P(MountPlaceTest, SourceThroughASymlinkIsCanonicalInTheLog) {
  const std::string link = tree() / "link";
  ASSERT_EQ(::symlink(source("d").c_str(), link.c_str()), 0);
  const auto mirror = mirror_at(link, mnt());
  EXPECT_TRUE(in_child([&] { EXPECT_EQ(read_file(mnt("f")), "contents"); }));
  EXPECT_TRUE(mirror->log().wait_for({.event = "lock", .path = source("d/f")})) << mirror->log().text();
}

TEST_P(MountPlaceTest, MountsMadeBelowTheSourceLaterAreNotSeen) {
  mount();
  EXPECT_TRUE(in_child([&] { EXPECT_EQ(list_dir(mnt("d")).size(), 1u); }));
  ASSERT_EQ(mount_tmpfs(source("d")), 0);
  write_file(source("d/later"), "x");
  EXPECT_TRUE(in_child([&] {
    EXPECT_EQ(read_file(mnt("d/f")), "contents");
    EXPECT_FALSE(exists(mnt("d/later")));
  }));
}

TEST_P(MountPlaceTest, UnmountingTheSourceDoesNotEndTheMirror) {
  ASSERT_EQ(mount_tmpfs(source()), 0);
  write_file(source("on-tmpfs"), "contents");
  mount();
  ASSERT_EQ(::umount2(source().c_str(), 0), 0);
  EXPECT_TRUE(in_child([&] {
    EXPECT_EQ(read_file(mnt("on-tmpfs")), "contents");
    write_file(mnt("new"), "text");
    EXPECT_EQ(read_file(mnt("new")), "text");
  }));
}

// The whole way round: two mirrors of each other's mountpoint, one on top of the other.
TEST_P(MountPlaceTest, TwoMirrorsOverTheSameSourceStack) {
  const std::string side = folder("side");
  ASSERT_EQ(::mount(source().c_str(), side.c_str(), nullptr, MS_BIND, nullptr), 0);
  const auto lower = mirror_at(source(), source());
  const auto upper = mirror_at(source(), source());
  Opener opener(source("d/f"), O_RDONLY);
  ASSERT_TRUE(opener.opens());
  EXPECT_EQ(opener.contents(), "contents");
  EXPECT_EQ(source_lock(side + "/d/f"), LockSeen::kShared);
  opener.close();
  EXPECT_TRUE(becomes_free(side + "/d/f"));
}

// Without the privilege for open_tree(2) there is no detached clone to work on, and the mirror meets itself below its
// source.
class PlainSourceTest : public MountPlaceTest {
 protected:
  static MirrorSetup without_open_tree() {
    MirrorSetup setup;
    setup.program.before_exec = [] { make_call_fail(SYS_open_tree, EPERM); };
    return setup;
  }
};
INSTANTIATE_TEST_SUITE_P(Mount, PlainSourceTest, BothPassthroughs(), passthrough_name);

// The directory that the mirror covers is shown as it is below the mirror, and nobody asks the mirror itself, which has
// but one thread here, and nothing cached. What asks it also keeps it from being unmounted.
TEST_P(PlainSourceTest, InsideTheSourceDoesNotRecurse) {
  make_dir(source("d/mnt"), 0750);
  const std::string inside = source("d/mnt");
  MirrorSetup setup = without_open_tree();
  setup.options = {"threads=1", "attr_timeout=0", "entry_timeout=0"};
  adapt(setup);
  MountedMirror mirror(source(), inside, folder("scratch1"), setup);
  const auto found = run_program({"find", inside});
  EXPECT_EQ(found.exit_code, 0) << found;
  EXPECT_EQ(found.out.size(), (inside + "\n" + inside + "/d\n" + inside + "/d/f\n" + inside + "/d/mnt\n").size());
  EXPECT_TRUE(in_child([&] {
    EXPECT_EQ(list_dir(inside + "/d"), (std::vector<std::string>{"f", "mnt"}));
    EXPECT_TRUE(list_dir(inside + "/d/mnt").empty());
    EXPECT_EQ(stat_of(inside + "/d/mnt").st_mode & 07777, 0750u);
    EXPECT_FALSE(exists(inside + "/d/mnt/d"));
    EXPECT_EQ(read_file(inside + "/d/f"), "contents");
  }));
  ForeignLock foreign(source("d/f"), LOCK_EX);
  Opener opener(inside + "/d/f", O_RDWR);
  ASSERT_TRUE(mirror.waits(opener.pid()));
  foreign.release();
  ASSERT_TRUE(opener.opens());
  EXPECT_EQ(source_lock(source("d/f")), LockSeen::kExclusive);
  opener.close();
  EXPECT_TRUE(becomes_free(source("d/f")));
  mirror.stop();  // and so says if it cannot be unmounted
}

TEST_P(PlainSourceTest, ReadOnlyThatCannotBeKeptIsRefused) {
  for (const std::string option : {"ro", "noatime"}) {
    const auto result =
        run_program({flockfs_program(), "-f", "-o", option, source(), mnt()}, without_open_tree().program);
    EXPECT_EQ(result.exit_code, 1) << result;
    for (const std::string& word : {option, source(), std::string("Operation not permitted")}) {
      EXPECT_NE(result.err.find(word), std::string::npos) << word << "\n" << result;
    }
    EXPECT_FALSE(find_mount(mnt()));
  }
}

}  // namespace
}  // namespace flockfs::test
