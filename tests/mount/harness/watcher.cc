#include "harness/watcher.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>

#include "harness/child.h"
#include "harness/files.h"

namespace flockfs::test {
namespace {

// Spins on each name in turn until it is there; says whether its first try of the lock was granted.
void watch(Peer& test, const std::string& source, int count, const IsLocked& is_locked) {
  for (int i = 0; i < count; ++i) {
    const std::string path = source + "/new" + std::to_string(i);
    int fd = -1;
    while ((fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC)) < 0 && errno == ENOENT) {
    }
    ASSERT_GE(fd, 0) << errno_name(errno);
    test.say(is_locked(fd) ? "refused" : "granted");
    ::close(fd);
  }
}

void create(Peer& test, const std::string& mnt, int count) {
  for (int i = 0; i < count; ++i) {
    test.await("create");
    const int access = i % 2 == 0 ? O_RDWR : O_WRONLY;
    const UniqueFd fd = open_file(mnt + "/new" + std::to_string(i), access | O_CREAT | (i % 4 < 2 ? O_EXCL : 0));
    test.await("close");
  }
}

}  // namespace

bool has_flock(int fd) { return ::flock(fd, LOCK_EX | LOCK_NB) != 0; }

int names_seen_unlocked(const std::string& mnt, const std::string& source, int count, const IsLocked& is_locked) {
  Child watcher([&](Peer& test) { watch(test, source, count, is_locked); });
  Child creator([&](Peer& test) { create(test, mnt, count); });
  int unlocked = 0;
  for (int i = 0; i < count; ++i) {
    creator.say("create");
    const auto word = watcher.hear();
    if (!word) {
      ADD_FAILURE() << "file " << i << " never turned up";
      return -1;
    }
    if (*word != "refused") ++unlocked;
    creator.say("close");
  }
  EXPECT_TRUE(watcher.ends_well());
  EXPECT_TRUE(creator.ends_well());
  return unlocked;
}

}  // namespace flockfs::test
