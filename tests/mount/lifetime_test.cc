// DESIGN 1.4: the lock is held until the last close of the open file description, or the death of its last process, and
// never weakened in between. (Mappings: mapping_test.cc.)

#include <fcntl.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <csignal>
#include <cstring>
#include <string>
#include <vector>

#include "harness/descriptor_passing.h"
#include "harness/mirror_test.h"
#include "harness/program.h"

namespace flockfs::test {
namespace {

class LifetimeTest : public PassthroughTest {
 protected:
  void SetUp() override {
    write_file(source("f"), "contents");
    mount();
  }
  [[nodiscard]] LockSeen lock() const { return source_lock(source("f")); }
};
INSTANTIATE_TEST_SUITE_P(Mount, LifetimeTest, BothPassthroughs(), passthrough_name);

TEST_P(LifetimeTest, LastsUntilTheLastDuplicateIsClosed) {
  Child child([&](Peer& test) {
    UniqueFd fd = open_file(mnt("f"), O_RDWR);
    UniqueFd copy(::dup(fd.get()));
    fd.reset();
    test.say("closed one");
    test.await("close");
    copy.reset();
    test.say("closed both");
    test.await("end");
  });
  ASSERT_TRUE(child.says("closed one"));
  pause_for(Millis(50));  // long enough for a RELEASE that should not come
  EXPECT_EQ(lock(), LockSeen::kExclusive);
  child.say("close");
  ASSERT_TRUE(child.says("closed both"));
  EXPECT_TRUE(becomes_free(source("f")));
  child.say("end");
}

TEST_P(LifetimeTest, LastsUntilAForkedChildClosesToo) {
  std::array<int, 2> ends{};
  ASSERT_EQ(::pipe2(ends.data(), O_CLOEXEC), 0);
  UniqueFd reader(ends[0]);
  UniqueFd writer(ends[1]);
  Child child([&](Peer& test) {
    UniqueFd fd = open_file(mnt("f"), O_RDWR);
    writer.reset();
    if (::fork() == 0) {
      char byte = 0;
      (void)!::read(reader.get(), &byte, 1);  // until the test closes its end
      ::_exit(0);
    }
    fd.reset();
    test.say("closed in the parent");
    test.await("end");
  });
  reader.reset();
  ASSERT_TRUE(child.says("closed in the parent"));
  pause_for(Millis(50));
  EXPECT_EQ(lock(), LockSeen::kExclusive);
  child.say("end");
  EXPECT_TRUE(child.ends_well());
  pause_for(Millis(50));
  EXPECT_EQ(lock(), LockSeen::kExclusive);
  writer.reset();
  EXPECT_TRUE(becomes_free(source("f")));
}

TEST_P(LifetimeTest, LastsWithADescriptorPassedToAnotherProcess) {
  SocketPair sockets;
  Child sender([&](Peer& test) {
    UniqueFd fd = open_file(mnt("f"), O_RDWR);
    ASSERT_TRUE(send_descriptor(sockets.first(), fd.get()));
    fd.reset();
    test.say("sent");
  });
  ASSERT_TRUE(sender.says("sent"));
  ASSERT_TRUE(sender.ends_well());
  pause_for(Millis(50));
  EXPECT_EQ(lock(), LockSeen::kExclusive);  // the descriptor is on its way, in no process at all
  Child receiver([&](Peer& test) {
    const UniqueFd fd = receive_descriptor(sockets.second());
    ASSERT_TRUE(fd.valid());
    EXPECT_EQ(read_all(fd.get()), "contents");
    test.say("received");
    test.await("close");
  });
  ASSERT_TRUE(receiver.says("received"));
  sockets.close();
  pause_for(Millis(50));
  EXPECT_EQ(lock(), LockSeen::kExclusive);
  receiver.say("close");
  EXPECT_TRUE(receiver.ends_well());
  EXPECT_TRUE(becomes_free(source("f")));
}

TEST_P(LifetimeTest, EndsWhenADescriptorOnItsWayIsDropped) {
  SocketPair sockets;
  EXPECT_TRUE(in_child([&] {
    const UniqueFd fd = open_file(mnt("f"), O_RDONLY);
    ASSERT_TRUE(send_descriptor(sockets.first(), fd.get()));
  }));
  EXPECT_EQ(lock(), LockSeen::kShared);
  sockets.close();
  EXPECT_TRUE(becomes_free(source("f")));
}

TEST_P(LifetimeTest, EndsWithTheDeathOfItsHolder) {
  for (const int flags : {O_RDONLY, O_RDWR}) {
    Opener opener(mnt("f"), flags);
    ASSERT_TRUE(opener.opens());
    EXPECT_NE(lock(), LockSeen::kFree);
    opener.child().signal(SIGKILL);
    ASSERT_TRUE(opener.child().killed_by(SIGKILL));
    EXPECT_TRUE(becomes_free(source("f")));
  }
}

TEST_P(LifetimeTest, LastsAcrossExecOfADescriptorThatIsInherited) {
  Program program({"sleep", "1000"}, {.before_exec = [&] {
                    if (::open(mnt("f").c_str(), O_RDWR) < 0) ::_exit(1);  // no O_CLOEXEC
                  }});
  const auto is_sleep = [&] { return read_file("/proc/" + std::to_string(program.pid()) + "/comm") == "sleep\n"; };
  ASSERT_TRUE(eventually(is_sleep));
  EXPECT_EQ(lock(), LockSeen::kExclusive);
  program.process().signal(SIGKILL);
  ASSERT_TRUE(program.process().killed_by(SIGKILL));
  EXPECT_TRUE(becomes_free(source("f")));
}

TEST_P(LifetimeTest, OwnUnlockAndSharedLockDoNotWeakenIt) {
  Child child([&](Peer& test) {
    const UniqueFd fd = open_file(mnt("f"), O_RDWR);
    EXPECT_EQ(::flock(fd.get(), LOCK_SH), 0);
    test.say("shared");
    test.await("unlock");
    EXPECT_EQ(::flock(fd.get(), LOCK_UN), 0);
    test.say("unlocked");
    test.await("close");
  });
  ASSERT_TRUE(child.says("shared"));
  EXPECT_EQ(lock(), LockSeen::kExclusive);
  child.say("unlock");
  ASSERT_TRUE(child.says("unlocked"));
  EXPECT_EQ(lock(), LockSeen::kExclusive);
  child.say("close");
  EXPECT_TRUE(child.ends_well());
  EXPECT_TRUE(becomes_free(source("f")));
}

TEST_P(LifetimeTest, OwnUnlockOfAReaderLeavesTheSharedLock) {
  Child child([&](Peer& test) {
    const UniqueFd fd = open_file(mnt("f"), O_RDONLY);
    EXPECT_EQ(::flock(fd.get(), LOCK_UN), 0);
    const struct flock whole { F_UNLCK, SEEK_SET, 0, 0, 0 };
    EXPECT_EQ(::fcntl(fd.get(), F_SETLK, &whole), 0);
    test.say("unlocked");
    test.await("close");
  });
  ASSERT_TRUE(child.says("unlocked"));
  EXPECT_EQ(lock(), LockSeen::kShared);
  child.say("close");
  EXPECT_TRUE(child.ends_well());
}

// POSIX record locks end with any close of the file by their process; this lock must not.
TEST_P(LifetimeTest, ClosingAnotherDescriptorOfTheSameProcessDoesNotEndIt) {
  Child child([&](Peer& test) {
    const UniqueFd fd = open_file(mnt("f"), O_RDONLY);
    EXPECT_EQ(open_error(mnt("f"), O_RDONLY), 0);
    test.say("closed the other");
    test.await("close");
  });
  ASSERT_TRUE(child.says("closed the other"));
  EXPECT_TRUE(has_flocks(source("f"), 1));
  EXPECT_EQ(lock(), LockSeen::kShared);
  child.say("close");
  EXPECT_TRUE(child.ends_well());
}

TEST_P(LifetimeTest, OutlastsRenameAndUnlinkOfItsFile) {
  ASSERT_EQ(::link(source("f").c_str(), source("other").c_str()), 0);
  Opener opener(mnt("f"), O_RDWR);
  ASSERT_TRUE(opener.opens());
  EXPECT_TRUE(in_child([&] { EXPECT_EQ(::rename(mnt("f").c_str(), mnt("g").c_str()), 0); }));
  EXPECT_EQ(source_lock(source("g")), LockSeen::kExclusive);
  EXPECT_TRUE(in_child([&] { EXPECT_EQ(::unlink(mnt("g").c_str()), 0); }));
  EXPECT_EQ(source_lock(source("other")), LockSeen::kExclusive);
  EXPECT_TRUE(opener.write("CONTENTS"));
  opener.close();
  EXPECT_TRUE(becomes_free(source("other")));
  EXPECT_EQ(read_file(source("other")), "CONTENTS");
}

TEST_P(LifetimeTest, EndsWithCloseThoughAnotherFileOfTheProcessStaysOpen) {
  write_file(source("g"), "other");
  Child child([&](Peer& test) {
    UniqueFd f = open_file(mnt("f"), O_RDWR);
    const UniqueFd g = open_file(mnt("g"), O_RDWR);
    f.reset();
    test.say("closed f");
    test.await("end");
  });
  ASSERT_TRUE(child.says("closed f"));
  EXPECT_TRUE(becomes_free(source("f")));
  EXPECT_EQ(source_lock(source("g")), LockSeen::kExclusive);
  child.say("end");
  EXPECT_TRUE(child.ends_well());
}

// The unlock follows close(2) by milliseconds at most: it is no matter of a poll.
TEST_P(LifetimeTest, UnlockFollowsCloseWithinMilliseconds) {
  std::vector<Millis> took;
  for (int round = 0; round < 20; ++round) {
    Opener opener(mnt("f"), O_RDWR);
    ASSERT_TRUE(opener.opens());
    opener.child().say("close");
    ASSERT_TRUE(opener.child().says("closed"));
    const Stopwatch watch;
    while (!try_flock_source(source("f"), LOCK_EX) && watch.elapsed() < scaled(Millis(2000))) {
    }
    took.push_back(watch.elapsed());
  }
  // Half of them: a busy machine may give a thread no processor for longer.
  std::nth_element(took.begin(), took.begin() + 10, took.end());
  EXPECT_LT(took[10], scaled(Millis(50)));
}

}  // namespace
}  // namespace flockfs::test
