// The daemon dies by SIGKILL: whoever has the mirror open gets errors and never hangs, and the place can be used again.

#include <fcntl.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <string>

#include "harness/crowd.h"
#include "harness/mirror_test.h"
#include "harness/program.h"

namespace flockfs::test {
namespace {

constexpr int kWaiters = 100;

class DaemonDeathTest : public MirrorTest {
 protected:
  void SetUp() override {
    write_file(source("f"), "contents");
    write_file(source("held"), std::string(1 << 20, 'x'));
    // With passthrough the kernel reads and writes the source by itself, daemon or not.
    mount({.options = {"passthrough=off"}});
  }

  void kill_daemon() {
    ::kill(mirror().daemon(), SIGKILL);
    const auto status = mirror().daemon_exit();
    ASSERT_TRUE(status);
    EXPECT_EQ(describe_status(*status), "signal 9");
    EXPECT_TRUE(mirror().is_mounted()) << "nobody was there to unmount it";
  }

  void expect_start_to_be_refused(const std::string& from, const std::string& to) {
    for (const std::string mode : {"-f", "--log-level=error"}) {  // in the foreground and in the background
      const auto result = run_program({flockfs_program(), mode, from, to});
      EXPECT_EQ(result.exit_code, 1) << result;
      EXPECT_TRUE(result.err.starts_with("flockfs: ")) << result;
      EXPECT_NE(result.err.find(mnt()), std::string::npos) << result;
      EXPECT_NE(result.err.find("unmount it first"), std::string::npos) << result;
      EXPECT_TRUE(mirror().is_mounted()) << "another mount covers the dead one";
    }
  }
};

// A client that has the file open and mapped from before, and finds out what it can do with it afterwards.
void hold_through_death(Peer& test, const std::string& path) {
  const UniqueFd fd = open_file(path, O_RDWR);
  void* map = ::mmap(nullptr, 1 << 20, PROT_READ, MAP_SHARED, fd.get(), 0);
  ASSERT_NE(map, MAP_FAILED);
  test.say("open");
  test.await("use");
  std::string block(4096, '\0');
  EXPECT_EQ(::pread(fd.get(), block.data(), block.size(), 512 * 1024), -1);
  EXPECT_EQ(errno_name(errno), "ENOTCONN");
  EXPECT_EQ(::pwrite(fd.get(), block.data(), block.size(), 0), -1);
  EXPECT_EQ(errno_name(errno), "ENOTCONN");
  EXPECT_EQ(::ftruncate(fd.get(), 0), -1);
  EXPECT_EQ(::fsync(fd.get()), -1);
  EXPECT_EQ(open_error(path, O_RDONLY), ENOTCONN);
  test.say("used");
  test.await("close");
}

TEST_F(DaemonDeathTest, EndsWaitsAndFailsUseWithoutAHang) {
  ForeignLock foreign(source("f"), LOCK_EX);
  Child holder([&](Peer& test) { hold_through_death(test, mnt("held")); });
  ASSERT_TRUE(holder.says("open"));
  EXPECT_EQ(source_lock(source("held")), LockSeen::kExclusive);
  Crowd crowd(kWaiters, [&](int index) {
    return open_error(mnt("f"), index % 2 == 0 ? O_RDONLY : O_RDWR | O_CREAT) == 0 ? EBADMSG : 0;
  });
  ASSERT_TRUE(mirror().waits_for(source("f"), kWaiters));
  kill_daemon();
  EXPECT_TRUE(crowd.all_succeed());  // each with an error, none with the lock
  holder.say("use");
  ASSERT_TRUE(holder.says("used"));
  EXPECT_TRUE(becomes_free(source("held")));
  EXPECT_TRUE(has_flocks(source("f"), 1));
  EXPECT_EQ(mirror().unmount(), EBUSY);
  holder.say("close");
  EXPECT_TRUE(holder.ends_well());
  // A process may still be about to give up its files.
  int error = 0;
  EXPECT_TRUE(eventually([&] { return (error = mirror().unmount()) == 0; })) << errno_name(error);
  unmount();
  EXPECT_EQ(read_file(source("held")), std::string(1 << 20, 'x'));
  mount();
  Opener waiter(mnt("f"), O_RDWR);
  ASSERT_TRUE(mirror().waits(waiter.pid()));
  foreign.release();
  ASSERT_TRUE(waiter.opens());
  EXPECT_EQ(waiter.contents(), "contents");
  waiter.close();
}

// The dead mirror cannot be mirrored, and what is said helps. (That it is replaced: DeadMirrorTest.)
TEST_F(DaemonDeathTest, DeadMountIsNamedWhereItIsToBeMirrored) {
  kill_daemon();
  expect_start_to_be_refused(mnt(), source());
  EXPECT_EQ(mirror().unmount(), 0);
  unmount();
  mount();
  EXPECT_TRUE(in_child([&] { EXPECT_EQ(read_file(mnt("f")), "contents"); }));
}

}  // namespace
}  // namespace flockfs::test
