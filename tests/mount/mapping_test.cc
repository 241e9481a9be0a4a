// DESIGN 1.4: the lock is held until the end of the last mapping, too. With passthrough the kernel tells nothing about
// mappings (RELEASE comes at close(2)), so both kinds of mirror have to show the same here.

#include <fcntl.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <csignal>
#include <string>

#include "harness/descriptor_passing.h"
#include "harness/mirror_test.h"

namespace flockfs::test {
namespace {

constexpr std::size_t kSize = 8192;
constexpr Millis kTooEarly{300};  // time enough for a lock to be given back that should not be

class MappingTest : public PassthroughTest {
 protected:
  void SetUp() override {
    write_file(source("f"), std::string(kSize, 'a'));
    mount();
  }
  void expect_to_stay(LockSeen lock) {
    pause_for(kTooEarly);
    EXPECT_EQ(source_lock(source("f")), lock);
  }
};
INSTANTIATE_TEST_SUITE_P(Mount, MappingTest, BothPassthroughs(), passthrough_name);

char* map_file(const UniqueFd& fd, int protection, int flags) {
  void* map = ::mmap(nullptr, kSize, protection, flags, fd.get(), 0);
  if (map == MAP_FAILED) throw std::runtime_error("mmap failed");
  return static_cast<char*>(map);
}

// A child that opens, maps and closes the file, and unmaps it when it is told.
Child mapper(const std::string& path, int open_flags, int protection, int map_flags) {
  return Child([=](Peer& test) {
    UniqueFd fd = open_file(path, open_flags);
    char* map = map_file(fd, protection, map_flags);
    fd.reset();
    test.say("mapped");
    test.await("unmap");
    EXPECT_EQ(map[kSize - 1], 'a');
    ::munmap(map, kSize);
    test.say("unmapped");
    test.await("end");
  });
}

TEST_P(MappingTest, SharedReadOnlyMappingKeepsTheSharedLockAfterClose) {
  Child child = mapper(mnt("f"), O_RDONLY, PROT_READ, MAP_SHARED);
  ASSERT_TRUE(child.says("mapped"));
  expect_to_stay(LockSeen::kShared);
  child.say("unmap");
  ASSERT_TRUE(child.says("unmapped"));
  EXPECT_TRUE(becomes_free(source("f")));
}

TEST_P(MappingTest, PrivateMappingKeepsTheSharedLockAfterClose) {
  Child child = mapper(mnt("f"), O_RDONLY, PROT_READ | PROT_WRITE, MAP_PRIVATE);
  ASSERT_TRUE(child.says("mapped"));
  expect_to_stay(LockSeen::kShared);
  child.say("unmap");
  ASSERT_TRUE(child.says("unmapped"));
  EXPECT_TRUE(becomes_free(source("f")));
}

TEST_P(MappingTest, WritableMappingKeepsTheExclusiveLockAfterClose) {
  Child child = mapper(mnt("f"), O_RDWR, PROT_READ | PROT_WRITE, MAP_SHARED);
  ASSERT_TRUE(child.says("mapped"));
  expect_to_stay(LockSeen::kExclusive);
  child.say("unmap");
  ASSERT_TRUE(child.says("unmapped"));
  EXPECT_TRUE(becomes_free(source("f")));
}

TEST_P(MappingTest, StoresReachTheSourceBeforeTheLockIsFree) {
  Child child([&](Peer& test) {
    UniqueFd fd = open_file(mnt("f"), O_RDWR);
    char* map = map_file(fd, PROT_READ | PROT_WRITE, MAP_SHARED);
    fd.reset();
    map[0] = 'b';
    map[kSize - 1] = 'z';
    ::munmap(map, kSize);
    test.say("unmapped");
    test.await("end");
  });
  ASSERT_TRUE(child.says("unmapped"));
  const ForeignLock next(source("f"), LOCK_SH);
  const std::string contents = read_all(next.fd());
  EXPECT_EQ(contents.front(), 'b');
  EXPECT_EQ(contents.back(), 'z');
  child.say("end");
}

TEST_P(MappingTest, EndsWithTheDeathOfTheProcess) {
  Child child = mapper(mnt("f"), O_RDWR, PROT_READ | PROT_WRITE, MAP_SHARED);
  ASSERT_TRUE(child.says("mapped"));
  expect_to_stay(LockSeen::kExclusive);
  child.signal(SIGKILL);
  ASSERT_TRUE(child.killed_by(SIGKILL));
  EXPECT_TRUE(becomes_free(source("f")));
}

TEST_P(MappingTest, LastOfTwoMappingsCounts) {
  Child child([&](Peer& test) {
    UniqueFd fd = open_file(mnt("f"), O_RDWR);
    char* first = map_file(fd, PROT_READ, MAP_SHARED);
    char* second = map_file(fd, PROT_READ, MAP_PRIVATE);
    fd.reset();
    ::munmap(first, kSize);
    test.say("unmapped one");
    test.await("unmap");
    ::munmap(second, kSize);
    test.say("unmapped both");
    test.await("end");
  });
  ASSERT_TRUE(child.says("unmapped one"));
  expect_to_stay(LockSeen::kExclusive);
  child.say("unmap");
  ASSERT_TRUE(child.says("unmapped both"));
  EXPECT_TRUE(becomes_free(source("f")));
}

TEST_P(MappingTest, PartOfAMappingThatIsLeftCounts) {
  Child child([&](Peer& test) {
    UniqueFd fd = open_file(mnt("f"), O_RDONLY);
    char* map = map_file(fd, PROT_READ, MAP_SHARED);
    fd.reset();
    ::munmap(map, kSize / 2);
    test.say("unmapped half");
    test.await("unmap");
    ::munmap(map + kSize / 2, kSize / 2);
    test.say("unmapped");
    test.await("end");
  });
  ASSERT_TRUE(child.says("unmapped half"));
  expect_to_stay(LockSeen::kShared);
  child.say("unmap");
  ASSERT_TRUE(child.says("unmapped"));
  EXPECT_TRUE(becomes_free(source("f")));
}

// The file of the mapping has no name any more by which /proc/PID/maps could be read naively.
TEST_P(MappingTest, MappingOfAnUnlinkedFileCounts) {
  ASSERT_EQ(::link(source("f").c_str(), source("other").c_str()), 0);
  Child child = mapper(mnt("f"), O_RDWR, PROT_READ, MAP_SHARED);
  ASSERT_TRUE(child.says("mapped"));
  EXPECT_TRUE(in_child([&] { EXPECT_EQ(::unlink(mnt("f").c_str()), 0); }));
  pause_for(kTooEarly);
  EXPECT_EQ(source_lock(source("other")), LockSeen::kExclusive);
  child.say("unmap");
  ASSERT_TRUE(child.says("unmapped"));
  EXPECT_TRUE(becomes_free(source("other")));
}

// Only the forked child keeps the mapping; the parent closed and unmapped.
TEST_P(MappingTest, MappingOfAForkedChildCounts) {
  Child child([&](Peer& test) {
    UniqueFd fd = open_file(mnt("f"), O_RDWR);
    char* map = map_file(fd, PROT_READ, MAP_SHARED);
    const pid_t pid = ::fork();
    if (pid == 0) {
      fd.reset();
      ::pause();
    }
    fd.reset();
    ::munmap(map, kSize);
    test.say("left to the child");
    test.await("kill");
    ::kill(pid, SIGKILL);
    ::waitpid(pid, nullptr, 0);
    test.say("killed");
    test.await("end");
  });
  ASSERT_TRUE(child.says("left to the child"));
  expect_to_stay(LockSeen::kExclusive);
  child.say("kill");
  ASSERT_TRUE(child.says("killed"));
  EXPECT_TRUE(becomes_free(source("f")));
}

// The opener forks a child that keeps the mapping, and ends. `closes_late`: the child, an orphan by then, makes the
// last close itself, so that the opener is gone when the daemon hears of it.
void expect_orphan_counts(const std::string& mirror_path, const std::string& source_path, bool closes_late) {
  std::array<int, 2> ends{};
  ASSERT_EQ(::pipe2(ends.data(), O_CLOEXEC), 0);
  UniqueFd reader(ends[0]);
  UniqueFd writer(ends[1]);
  EXPECT_TRUE(in_child([&] {
    UniqueFd fd = open_file(mirror_path, O_RDWR);
    const char* map = map_file(fd, PROT_READ, MAP_SHARED);
    writer.reset();
    const pid_t opener = ::getpid();
    if (::fork() != 0) return;
    while (closes_late && ::getppid() == opener) ::usleep(1000);
    fd.reset();
    char byte = map[0];
    (void)!::read(reader.get(), &byte, 1);  // until the test closes its end
    ::_exit(0);
  }));
  reader.reset();
  pause_for(kTooEarly);
  EXPECT_EQ(source_lock(source_path), LockSeen::kExclusive);
  writer.reset();
  EXPECT_TRUE(becomes_free(source_path));
}

TEST_P(MappingTest, MappingOfAnOrphanCounts) { expect_orphan_counts(mnt("f"), source("f"), false); }

TEST_P(MappingTest, MappingOfAnOrphanThatMadeTheLastCloseCounts) { expect_orphan_counts(mnt("f"), source("f"), true); }

TEST_P(MappingTest, MappingByTheReceiverOfADescriptorCounts) {
  SocketPair sockets;
  Child sender([&](Peer& test) {
    const UniqueFd fd = open_file(mnt("f"), O_RDWR);
    ASSERT_TRUE(send_descriptor(sockets.first(), fd.get()));
    test.await("end");
  });
  Child receiver([&](Peer& test) {
    UniqueFd fd = receive_descriptor(sockets.second());
    ASSERT_TRUE(fd.valid());
    char* map = map_file(fd, PROT_READ, MAP_SHARED);
    test.say("mapped");
    test.await("close");
    fd.reset();
    test.say("closed");
    test.await("unmap");
    ::munmap(map, kSize);
    test.say("unmapped");
    test.await("end");
  });
  ASSERT_TRUE(receiver.says("mapped"));
  sender.say("end");
  ASSERT_TRUE(sender.ends_well());
  receiver.say("close");
  ASSERT_TRUE(receiver.says("closed"));
  expect_to_stay(LockSeen::kExclusive);
  receiver.say("unmap");
  ASSERT_TRUE(receiver.says("unmapped"));
  EXPECT_TRUE(becomes_free(source("f")));
}

// Neither made by the opener nor after the open, and the opener lives on.
TEST_P(MappingTest, MappingByAnOlderReceiverOfADescriptorCounts) {
  SocketPair sockets;
  Child receiver([&](Peer& test) {
    UniqueFd fd = receive_descriptor(sockets.second());
    ASSERT_TRUE(fd.valid());
    char* map = map_file(fd, PROT_READ, MAP_SHARED);
    test.say("mapped");
    test.await("close");
    fd.reset();
    test.say("closed");
    test.await("unmap");
    ::munmap(map, kSize);
    test.say("unmapped");
    test.await("end");
  });
  pause_for(Millis(50));  // older by some ticks of the clock by which /proc tells the age of a process
  Child sender([&](Peer& test) {
    UniqueFd fd = open_file(mnt("f"), O_RDWR);
    ASSERT_TRUE(send_descriptor(sockets.first(), fd.get()));
    fd.reset();
    test.say("sent");
    test.await("end");
  });
  ASSERT_TRUE(sender.says("sent"));
  ASSERT_TRUE(receiver.says("mapped"));
  receiver.say("close");
  ASSERT_TRUE(receiver.says("closed"));
  expect_to_stay(LockSeen::kExclusive);
  receiver.say("unmap");
  ASSERT_TRUE(receiver.says("unmapped"));
  EXPECT_TRUE(becomes_free(source("f")));
}

// A lock that only a mapping keeps is one that others wait for, and get.
TEST_P(MappingTest, WriterWaitsForTheMappingOfAReader) {
  Child child = mapper(mnt("f"), O_RDONLY, PROT_READ, MAP_SHARED);
  ASSERT_TRUE(child.says("mapped"));
  Opener writer(mnt("f"), O_RDWR);
  ASSERT_TRUE(mirror().waits(writer.pid()));
  pause_for(kTooEarly);
  EXPECT_TRUE(writer.is_waiting());
  child.say("unmap");
  ASSERT_TRUE(child.says("unmapped"));
  ASSERT_TRUE(writer.opens());
  writer.close();
}

// With passthrough a store is in the source at once; this is how the other tests know which mirror they have.
TEST_P(MappingTest, StoreIsInTheSourceAtOnceWithPassthrough) {
  Child child([&](Peer& test) {
    const UniqueFd fd = open_file(mnt("f"), O_RDWR);
    map_file(fd, PROT_READ | PROT_WRITE, MAP_SHARED)[0] = 'b';
    test.say("stored");
    test.await("end");
  });
  ASSERT_TRUE(child.says("stored"));
  EXPECT_EQ(read_file(source("f")).front(), GetParam() == Passthrough::kAuto ? 'b' : 'a');
  child.say("end");
}

}  // namespace
}  // namespace flockfs::test
