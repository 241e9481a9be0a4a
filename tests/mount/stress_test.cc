// Many clients that open, map, truncate, replace and change files in all ways at the same time: no call may fail for a
// reason that the source would not give, and in the end nothing is held.

#include <fcntl.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstring>
#include <random>
#include <string>

#include "harness/crowd.h"
#include "harness/mirror_test.h"

namespace flockfs::test {
namespace {

class StressTest : public PassthroughTest {};
INSTANTIATE_TEST_SUITE_P(Mount, StressTest, BothPassthroughs(), passthrough_name);

// One client's turn on an open file; 0 or an errno.
int use(int fd, bool writes, unsigned dice) {
  char byte = 0;
  if (dice % 4 == 0) {
    void* map = ::mmap(nullptr, 4096, PROT_READ, MAP_SHARED, fd, 0);
    if (map == MAP_FAILED) return errno;
    ::munmap(map, 4096);
  }
  if (writes && ::pwrite(fd, "x", 1, dice % 20000) != 1) return errno;
  if (writes && dice % 7 == 0 && ::ftruncate(fd, dice % 10000) != 0) return errno;
  struct stat status {};
  if (::fstat(fd, &status) != 0) return errno;
  return ::pread(fd, &byte, 1, 0) >= 0 ? 0 : errno;
}

// 300 turns on one of three files; now and then changes a mode, so that passthrough comes and goes.
int open_and_use(const std::string& dir, int client) {
  std::mt19937 random(static_cast<unsigned>(client));
  constexpr int kFlags[] = {O_RDONLY, O_RDWR, O_RDWR | O_CREAT, O_RDWR | O_TRUNC, O_RDONLY | O_NONBLOCK};
  for (int turn = 0; turn < 300; ++turn) {
    const auto dice = static_cast<unsigned>(random());
    const std::string path = dir + "/f" + std::to_string(dice % 3);
    const int flags = kFlags[(dice >> 8) % 5];
    const UniqueFd fd(::open(path.c_str(), flags | O_CLOEXEC, 0644));
    if (!fd) return errno;
    if (const int error = use(fd.get(), (flags & O_ACCMODE) != O_RDONLY, dice >> 4); error != 0) return error;
    if (dice % 50 == 0 && ::fchmod(fd.get(), dice % 100 == 0 ? 04755 : 0644) != 0) return errno;
  }
  return 0;
}

TEST_P(StressTest, OpensInAllWaysNeverFail) {
  for (int i = 0; i < 3; ++i) write_file(source("f" + std::to_string(i)), std::string(5000, 'x'));
  mount({.options = {"log_level=info"}});
  Crowd crowd(8, [&](int client) { return open_and_use(mnt(), client); });
  EXPECT_TRUE(crowd.all_succeed(kPatience * 6));
  for (int i = 0; i < 3; ++i) EXPECT_TRUE(becomes_free(source("f" + std::to_string(i))));
}

// As editors do it: write aside, rename over. Readers always get one version whole, and never an error.
TEST_P(StressTest, ReadersOfAFileThatIsReplacedAlwaysGetOneWhole) {
  constexpr int kRounds = 150;
  write_file(source("f"), std::string(3000, 'a'));
  mount({.options = {"log_level=info", "attr_timeout=3600", "entry_timeout=3600"}});
  Crowd writers(2, [&](int index) {
    const std::string& dir = index == 0 ? mnt() : source();
    for (int round = 0; round < kRounds; ++round) {
      const std::string aside = dir + "/aside" + std::to_string(index);
      write_file(aside, std::string(static_cast<std::size_t>(1000 + 37 * round), static_cast<char>('a' + round % 26)));
      if (::rename(aside.c_str(), (dir + "/f").c_str()) != 0) return errno;
    }
    return 0;
  });
  Crowd readers(4, [&](int) {
    for (int round = 0; round < kRounds * 2; ++round) {
      const UniqueFd fd(::open(mnt("f").c_str(), O_RDONLY | O_CLOEXEC));
      if (!fd) return errno;
      const std::string contents = read_all(fd.get());
      if (contents.size() < 1000 || contents != std::string(contents.size(), contents.front())) return EBADMSG;
    }
    return 0;
  });
  EXPECT_TRUE(writers.all_succeed(kPatience * 6));
  EXPECT_TRUE(readers.all_succeed(kPatience * 6));
  EXPECT_TRUE(becomes_free(source("f")));
}

// The permission check of an open finds the file gone as often as the open itself, and each must have a second try.
TEST_P(StressTest, WriterOfAFileThatIsReplacedIsNeverTurnedAway) {
  write_file(source("f"), "");
  mount({.options = {"log_level=info", "attr_timeout=0"}});
  Child replacer([&](Peer& test) {
    test.say("replacing");
    for (;;) {
      (void)open_error(source("aside"), O_RDWR | O_CREAT);
      if (::rename(source("aside").c_str(), source("f").c_str()) != 0) return;
    }
  });
  ASSERT_TRUE(replacer.says("replacing"));
  EXPECT_TRUE(in_child(
      [&] {
        for (int round = 0; round < 2000; ++round) {
          ASSERT_EQ(open_error(mnt("f"), round % 2 == 0 ? O_WRONLY : O_RDWR | O_CREAT), 0) << "round " << round;
        }
      },
      kPatience * 4));
  replacer.signal(SIGKILL);
  EXPECT_TRUE(replacer.killed_by(SIGKILL));
}

// Waits that are ended and granted in all orders.
TEST_P(StressTest, KilledAndGrantedWaitsLeaveNothing) {
  write_file(source("f"), "contents");
  mount({.options = {"log_level=info"}});
  const int descriptors = mirror().descriptors();
  for (int round = 0; round < 8; ++round) {
    Crowd crowd(30, [&](int index) {
      for (;;) {
        const int error = open_error(mnt("f"), index % 3 == 0 ? O_RDWR : O_RDONLY);
        if (error != 0) return error;
      }
    });
    pause_for(Millis(60));
    crowd.signal(SIGKILL);
    ASSERT_TRUE(crowd.all_gone());
    EXPECT_EQ(crowd.finished(), 0);
    EXPECT_TRUE(becomes_free(source("f")));
  }
  EXPECT_TRUE(eventually([&] { return mirror().descriptors() <= descriptors + 2; })) << mirror().descriptors();
}

}  // namespace
}  // namespace flockfs::test
