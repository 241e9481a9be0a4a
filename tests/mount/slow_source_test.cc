// DESIGN 4.2: where open(2) of the source itself may wait, it never does so in a thread that others need.

#include <fcntl.h>
#include <sys/file.h>
#include <sys/mount.h>
#include <unistd.h>

#include <cerrno>
#include <memory>
#include <string>

#include "harness/crowd.h"
#include "harness/file_systems.h"
#include "harness/mirror_test.h"

namespace flockfs::test {
namespace {

// More than the daemon has workers.
constexpr int kMany = 40;

int open_once(const std::string& path) {
  const UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  return fd ? 0 : errno;
}

// A mirror of something that is served by another mirror.
class SlowSourceTest : public MirrorTest {
 protected:
  void SetUp() override {
    make_dir(source("dir"));
    for (int i = 0; i < kMany; ++i) write_file(source("dir/f" + std::to_string(i)), "contents");
    write_file(source("dir/free"), "free");
    mount();
  }

  void put_outer_on(const std::string& path) {
    outer_mnt_ = folder("outer");
    outer_ = std::make_unique<MountedMirror>(path, outer_mnt_, folder("outer-scratch"));
  }

  void expect_answers() {
    EXPECT_TRUE(in_child([&] {
      EXPECT_EQ(list_dir(outer_mnt_ + "/dir").size(), static_cast<std::size_t>(kMany + 1));
      EXPECT_EQ(read_file(outer_mnt_ + "/dir/free"), "free");
    }));
  }

  void TearDown() override { outer_.reset(); }

  std::string outer_mnt_;
  std::unique_ptr<MountedMirror> outer_;
};

TEST_F(SlowSourceTest, TruncationsByPathThatWaitHarmNobody) {
  put_outer_on(mnt());
  ForeignLock foreign(source("dir/f0"), LOCK_EX);
  Crowd crowd(kMany, [&](int) { return ::truncate((outer_mnt_ + "/dir/f0").c_str(), 3) == 0 ? 0 : errno; });
  ASSERT_TRUE(mirror().waits_for(source("dir/f0")));
  expect_answers();
  foreign.release();
  // Each has an answer: its truncation, or EAGAIN for one that the others kept waiting.
  EXPECT_TRUE(eventually([&] { return crowd.finished() == kMany; }, kPatience * 6));
  EXPECT_TRUE(becomes_free(source("dir/f0")));
}

// The kernel keeps the file from being written while a truncation by path has no answer, and here it is the source's
// open(2) that waits for the very client who wants to write.
TEST_F(SlowSourceTest, TruncationByPathGivesWayToAClientThatHasTheFileOpen) {
  put_outer_on(mnt());
  const std::string path = outer_mnt_ + "/dir/f0";
  Opener holder(path, O_RDWR);
  ASSERT_TRUE(holder.opens());
  Child child([&](Peer& test) { test.say(std::to_string(::truncate(path.c_str(), 3) == 0 ? 0 : errno)); });
  EXPECT_TRUE(child.says(std::to_string(EAGAIN), Millis(1000)));
  EXPECT_TRUE(holder.write("CONTENTS"));
  EXPECT_EQ(holder.contents(), "CONTENTS");
  holder.close();
  EXPECT_TRUE(becomes_free(source("dir/f0")));
}

TEST_F(SlowSourceTest, OpenThatWaitsInTheSourceIsLogged) {
  put_outer_on(mnt());
  ForeignLock foreign(source("dir/f0"), LOCK_EX);
  Opener reader(outer_mnt_ + "/dir/f0", O_RDONLY);
  EXPECT_TRUE(outer_->waits(reader.pid()));
  foreign.release();
  EXPECT_TRUE(reader.opens());
  reader.close();
}

TEST_F(SlowSourceTest, ManyWaitsForOneFileLeaveThreadsForOthers) {
  put_outer_on(mnt());
  ForeignLock foreign(source("dir/f0"), LOCK_EX);
  Crowd crowd(kMany * 5, [&](int) { return open_once(outer_mnt_ + "/dir/f0"); });
  ASSERT_TRUE(mirror().waits_for(source("dir/f0")));
  expect_answers();
  EXPECT_EQ(crowd.finished(), 0);
  foreign.release();
  EXPECT_TRUE(crowd.all_succeed());
}

TEST_F(SlowSourceTest, OverlayOfAMirrorIsNoFileSystemOfItsOwn) {
  const std::string merged = folder("merged");
  if (const int error = mount_overlay(mnt(), folder("upper"), folder("work"), merged); error != 0) {
    GTEST_SKIP() << "no overlayfs over a mirror here: " << error;
  }
  put_outer_on(merged);
  ForeignLock foreign(source("dir/f0"), LOCK_EX);
  Crowd crowd(kMany, [&](int) { return open_once(outer_mnt_ + "/dir/f0"); });
  ASSERT_TRUE(mirror().waits_for(source("dir/f0")));
  expect_answers();
  foreign.release();
  EXPECT_TRUE(crowd.all_succeed());
  outer_.reset();
  EXPECT_EQ(::umount2(merged.c_str(), MNT_DETACH), 0);
}

}  // namespace
}  // namespace flockfs::test
