// DESIGN 1.1, second half: directories, symlinks, FIFOs, sockets, devices and O_PATH are never locked, nor opened by
// the daemon where they could block it; and what is no open takes no lock and waits for none.

#include <fcntl.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/un.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <string>

#include "harness/mirror_test.h"

namespace flockfs::test {
namespace {

class NoLockTest : public MirrorTest {
 protected:
  void expect_no_decision() {
    EXPECT_EQ(log().count({.event = "lock"}), 0u) << log().text();
    EXPECT_EQ(log().count({.event = "wait"}), 0u) << log().text();
  }
};

TEST_F(NoLockTest, WhatIsNoOpenNeitherWaitsNorLocks) {
  write_file(source("f"), "contents");
  mount();
  const ForeignLock foreign(source("f"), LOCK_EX);
  EXPECT_TRUE(in_child([&] {
    const std::string f = mnt("f");
    const std::string g = mnt("g");
    char value[8];
    const timespec times[2]{{1000, 0}, {2000, 0}};
    EXPECT_EQ(stat_of(f).st_size, 8);
    EXPECT_EQ(::access(f.c_str(), R_OK | W_OK), 0);
    EXPECT_EQ(::chmod(f.c_str(), 0600), 0);
    EXPECT_EQ(::chown(f.c_str(), 1, 1), 0);
    EXPECT_EQ(::utimensat(AT_FDCWD, f.c_str(), times, 0), 0);
    EXPECT_EQ(::setxattr(f.c_str(), "user.x", "v", 1, 0), 0);
    EXPECT_EQ(::getxattr(f.c_str(), "user.x", value, sizeof value), 1);
    EXPECT_GT(::listxattr(f.c_str(), nullptr, 0), 0);
    EXPECT_EQ(::removexattr(f.c_str(), "user.x"), 0);
    EXPECT_EQ(::link(f.c_str(), g.c_str()), 0);
    EXPECT_EQ(::rename(f.c_str(), mnt("h").c_str()), 0);
    EXPECT_EQ(::unlink(g.c_str()), 0);
    EXPECT_EQ(::mknod(mnt("node").c_str(), S_IFREG | 0644, 0), 0);
    EXPECT_EQ(::unlink(mnt("h").c_str()), 0);
  }));
  expect_no_decision();
}

TEST_F(NoLockTest, PathDescriptorNeitherWaitsNorLocks) {
  write_file(source("f"), "contents");
  mount();
  ForeignLock foreign(source("f"), LOCK_EX);
  Opener opener(mnt("f"), O_PATH);
  ASSERT_TRUE(opener.opens());
  foreign.release();
  EXPECT_EQ(source_lock(source("f")), LockSeen::kFree);
  opener.close();
  expect_no_decision();
}

TEST_F(NoLockTest, DirectoryNeitherWaitsNorIsLocked) {
  make_dir(source("dir"));
  write_file(source("dir/f"), "contents");
  mount();
  ForeignLock foreign(source("dir"), LOCK_EX);
  Opener opener(mnt("dir"), O_RDONLY | O_DIRECTORY);
  ASSERT_TRUE(opener.opens());
  EXPECT_TRUE(in_child([&] { EXPECT_EQ(list_dir(mnt("dir")).size(), 1u); }));
  foreign.release();
  EXPECT_EQ(source_lock(source("dir")), LockSeen::kFree);
  opener.close();
  expect_no_decision();
}

TEST_F(NoLockTest, SymlinkIsReadWhileItsTargetIsLocked) {
  write_file(source("target"), "contents");
  ASSERT_EQ(::symlink("target", source("link").c_str()), 0);
  mount();
  const ForeignLock foreign(source("target"), LOCK_EX);
  EXPECT_TRUE(in_child([&] {
    char target[64];
    EXPECT_EQ(::readlink(mnt("link").c_str(), target, sizeof target), 6);
    EXPECT_EQ(open_error(mnt("link"), O_PATH | O_NOFOLLOW), 0);
    EXPECT_EQ(open_error(mnt("link"), O_RDONLY | O_NOFOLLOW), ELOOP);
  }));
  expect_no_decision();
}

TEST_F(NoLockTest, FifoJoinsItsTwoSidesOnTheMirror) {
  ASSERT_EQ(::mkfifo(source("fifo").c_str(), 0666), 0);
  mount();
  const ForeignLock foreign(source("fifo"), LOCK_EX);
  Opener reader(mnt("fifo"), O_RDONLY);  // the kernel holds it until there is a writer
  Child writer([&](Peer& test) {
    const UniqueFd fd = open_file(mnt("fifo"), O_WRONLY);
    ASSERT_EQ(::write(fd.get(), "through", 7), 7);
    test.say("written");
    test.await("end");
  });
  ASSERT_TRUE(writer.says("written"));
  ASSERT_TRUE(reader.opens());
  EXPECT_FALSE(mirror().has_open(source("fifo")));
  writer.say("end");
  EXPECT_TRUE(writer.ends_well());
  expect_no_decision();
}

TEST_F(NoLockTest, FifoOfTheSourceIsNeverOpenedByTheDaemon) {
  ASSERT_EQ(::mkfifo(source("fifo").c_str(), 0666), 0);
  mount();
  Opener reader(mnt("fifo"), O_RDONLY | O_NONBLOCK);
  ASSERT_TRUE(reader.opens());
  EXPECT_EQ(open_error(source("fifo"), O_WRONLY | O_NONBLOCK), ENXIO);
  EXPECT_FALSE(mirror().has_open(source("fifo")));
  reader.close();
  expect_no_decision();
}

int socket_at(const std::string& path, bool listening) {
  const int fd = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  path.copy(address.sun_path, sizeof address.sun_path - 1);
  const auto* where = reinterpret_cast<const sockaddr*>(&address);
  const int result = listening ? ::bind(fd, where, sizeof address) : ::connect(fd, where, sizeof address);
  if (result == 0 && (!listening || ::listen(fd, 1) == 0)) return fd;
  const int error = errno;
  ::close(fd);
  errno = error;
  return -1;
}

TEST_F(NoLockTest, SocketConnectsOnTheMirror) {
  mount();
  Opener server([&] { return socket_at(mnt("socket"), true); });
  ASSERT_TRUE(server.opens());
  Opener client([&] { return socket_at(mnt("socket"), false); });
  EXPECT_TRUE(client.opens());
  EXPECT_TRUE(S_ISSOCK(stat_of(source("socket")).st_mode));
  EXPECT_TRUE(in_child([&] { EXPECT_EQ(open_error(mnt("socket"), O_RDONLY), ENXIO); }));
  expect_no_decision();
}

TEST_F(NoLockTest, DeviceIsNotOpenedThroughTheMirror) {
  ASSERT_EQ(::mknod(source("zero").c_str(), S_IFCHR | 0666, makedev(1, 5)), 0);
  mount();
  EXPECT_TRUE(in_child([&] {
    EXPECT_TRUE(S_ISCHR(stat_of(mnt("zero")).st_mode));
    EXPECT_EQ(stat_of(mnt("zero")).st_rdev, makedev(1, 5));
    EXPECT_EQ(open_error(mnt("zero"), O_RDONLY), EACCES);  // FUSE mounts are nodev unless asked otherwise
  }));
  EXPECT_FALSE(mirror().has_open(source("zero")));
  expect_no_decision();
}

// A mirror never leads out of its source: the client, not the daemon, follows symlinks.
TEST_F(NoLockTest, DirectoryReplacedByASymlinkLeadsNowhereElse) {
  const std::string outside = folder("outside");
  write_file(outside + "/f", "outside");
  make_dir(source("dir"));
  write_file(source("dir/f"), "inside");
  mount({.options = {"entry_timeout=3600", "attr_timeout=3600"}});
  EXPECT_TRUE(in_child([&] { EXPECT_EQ(read_file(mnt("dir/f")), "inside"); }));
  ASSERT_EQ(::rename(source("dir").c_str(), source("moved").c_str()), 0);
  ASSERT_EQ(::symlink(outside.c_str(), source("dir").c_str()), 0);
  EXPECT_TRUE(in_child([&] {
    // Either the kernel still knows "dir" as the directory it was, or this client follows the new symlink itself.
    const UniqueFd fd = open_file(mnt("dir/f"), O_RDONLY);
    struct stat status {};
    ASSERT_EQ(::fstat(fd.get(), &status), 0);
    const bool through_mirror = status.st_dev == stat_of(mnt()).st_dev;
    EXPECT_EQ(read_all(fd.get()), through_mirror ? "inside" : "outside");
  }));
  for (const LogEntry& entry : log().matching({.event = "lock"})) {
    EXPECT_TRUE(entry.get("path").starts_with(source())) << entry.line;
  }
}

}  // namespace
}  // namespace flockfs::test
