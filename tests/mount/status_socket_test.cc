// How flockfs-status finds a mirror, and who is answered: the socket, its directory, and whoever is on either end.

#include <fcntl.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstddef>
#include <cstdio>
#include <string>
#include <vector>

#include "harness/status.h"
#include "harness/users.h"

namespace flockfs::test {
namespace {

class StatusSocketTest : public MirrorWithStatusTest {
 protected:
  void SetUp() override {
    write_file(source("f"), "contents");
    write_file(source("g"), "contents");
  }
};

// To the only socket there is; -1 if that cannot be.
UniqueFd connect_to_mirror(int flags = 0) {
  UniqueFd socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | flags, 0));
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::snprintf(address.sun_path, sizeof address.sun_path, "/run/flockfs/%s", status_sockets().at(0).c_str());
  if (::connect(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) return UniqueFd();
  return socket;
}

TEST_F(StatusSocketTest, AnyPathInTheMirrorWillDo) {
  mount();
  for (const std::string& path : {mnt(), mnt() + "/", mnt("f"), tree() / "source/../mnt"}) {
    EXPECT_EQ(status_of(path).value("pid", 0), mirror().daemon()) << path;
  }
  for (const std::string& path : {source(), std::string("/"), mnt("missing")}) {
    const ProgramResult result = run_status({path});
    EXPECT_EQ(result.exit_code, 1) << result;
    EXPECT_EQ(result.out, "") << result;
    EXPECT_NE(result.err.find(path), std::string::npos) << result;
  }
  EXPECT_EQ(run_status({}).exit_code, 2);
}

TEST_F(StatusSocketTest, ByTheDaemonsNumber) {
  mount();
  EXPECT_EQ(status_of(std::to_string(mirror().daemon())).value("mountpoint", ""), mnt());
  Child stranger([](Peer& test) { test.await("end"); });
  const ProgramResult none = run_status({std::to_string(stranger.pid())});
  EXPECT_EQ(none.exit_code, 1) << none;
  EXPECT_NE(none.err.find("has no mirror"), std::string::npos) << none;
  EXPECT_EQ(run_status({"999999999"}).exit_code, 1);
  stranger.say("end");
}

// As flockfs-run makes them: nobody else sees the mount. Whoever lives there leads to it.
TEST_F(StatusSocketTest, MirrorInAPrivateNamespaceByProcess) {
  const std::string script =
      "'" + flockfs_program() + "' '" + source() + "' '" + mnt() + "' && echo ready && exec sleep 100";
  Program inside({"sh", "-c", script}, {.before_exec = [] {
                   if (::unshare(CLONE_NEWNS) != 0) ::_exit(126);
                 }});
  ASSERT_TRUE(eventually([&] { return inside.out() == "ready\n"; })) << inside.err();
  const Json seen = status_of(std::to_string(inside.pid()));
  EXPECT_EQ(seen.value("mountpoint", ""), mnt());
  EXPECT_EQ(seen.value("source", ""), source());
  const auto daemon = seen.value("pid", 0);
  ASSERT_GT(daemon, 0);
  EXPECT_EQ(run_status({mnt()}).exit_code, 1) << "it is not mounted here";
  ::kill(daemon, SIGTERM);
  EXPECT_TRUE(eventually([] { return status_sockets().empty(); }));
}

// The names of sockets without a file are anybody's: what another process listens for is not taken for a mirror's
// answer.
TEST_F(StatusSocketTest, SocketInAnotherProcessesNameIsNotBelieved) {
  Child alleged([](Peer& test) { test.await("end"); });
  const std::string name = "flockfs/status.0:77." + std::to_string(alleged.pid());
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  name.copy(address.sun_path + 1, name.size());
  const auto size = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + name.size());
  const UniqueFd listener(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  ASSERT_EQ(::bind(listener.get(), reinterpret_cast<const sockaddr*>(&address), size), 0);
  ASSERT_EQ(::listen(listener.get(), 8), 0);
  const ProgramResult result = run_status({std::to_string(alleged.pid())});
  EXPECT_EQ(result.exit_code, 1) << result;
  EXPECT_NE(result.err.find("has no mirror"), std::string::npos) << result;
  alleged.say("end");
}

TEST_F(StatusSocketTest, NothingIsLeft) {
  mount();
  EXPECT_EQ(status_sockets().size(), 1U);
  EXPECT_TRUE(in_child([&] { EXPECT_EQ(list_dir(mnt()), list_dir(source())); }));
  EXPECT_EQ(list_dir(source()).size(), 2U) << "nothing is added to the tree";
  unmount();
  EXPECT_TRUE(status_sockets().empty());
}

TEST_F(StatusSocketTest, SocketOfAKilledDaemonIsReplaced) {
  mount();
  const auto before = status_sockets();
  ::kill(mirror().daemon(), SIGKILL);
  ASSERT_TRUE(mirror().daemon_exit());
  EXPECT_EQ(status_sockets(), before);
  const ProgramResult dead = run_status({mnt()});
  EXPECT_EQ(dead.exit_code, 1) << dead;
  EXPECT_NE(dead.err.find("has ended"), std::string::npos) << dead;
  EXPECT_TRUE(eventually([&] { return mirror().unmount() == 0; }));
  unmount();
  mount();
  EXPECT_EQ(status()["pid"], mirror().daemon());
  EXPECT_EQ(status_sockets().size(), 1U);
  EXPECT_NE(status_sockets(), before);
}

// The directory is closed to others; were it open, they would be told nothing.
TEST_F(StatusSocketTest, OtherUsersGetNothing) {
  mount({.options = {"allow_other"}});
  const auto ask = [this](const std::string& target) {
    return run_status({target}, {.before_exec = [] { become_user(); }});
  };
  ASSERT_EQ(::chmod(tree().path().c_str(), 0755), 0);
  const ProgramResult closed = ask(mnt());
  EXPECT_EQ(closed.exit_code, 1) << closed;
  ASSERT_EQ(::chmod("/run/flockfs", 0755), 0);
  ASSERT_EQ(::chmod(("/run/flockfs/" + status_sockets().at(0)).c_str(), 0666), 0);
  EXPECT_TRUE(in_child([] {
    become_user();
    const UniqueFd socket = connect_to_mirror();
    ASSERT_TRUE(socket.valid());
    char byte = 0;
    EXPECT_LE(::recv(socket.get(), &byte, 1, 0), 0) << "the end, and nothing before it";
  }));
  EXPECT_EQ(run_status({mnt()}).exit_code, 0);
}

TEST_F(StatusSocketTest, ClientsThatHangHoldUpNeitherTheMirrorNorItsEnd) {
  mount();
  Child hanging([](Peer& test) {
    std::vector<UniqueFd> sockets;
    for (int i = 0; i < 20; ++i) sockets.push_back(connect_to_mirror(SOCK_NONBLOCK));
    test.say("connected");
    test.await("end");
  });
  ASSERT_TRUE(hanging.says("connected"));
  EXPECT_TRUE(in_child([&] { EXPECT_EQ(read_file(mnt("f")), "contents"); }));
  EXPECT_EQ(status()["pid"], mirror().daemon());
  unmount();
  EXPECT_TRUE(status_sockets().empty());
  hanging.say("end");
  EXPECT_TRUE(hanging.ends_well());
}

class StatusPlaceTest : public StatusSocketTest {
 protected:
  // A mirror all the same, which says once why it has no status, and what a client is told.
  void expect_none() {
    MirrorTest::mount();
    EXPECT_TRUE(log().wait_for({.event = "nostatus"})) << log().text();
    EXPECT_TRUE(in_child([&] { EXPECT_EQ(read_file(mnt("f")), "contents"); }));
    const ProgramResult result = run_status({mnt()});
    EXPECT_EQ(result.exit_code, 1) << result;
    EXPECT_NE(result.err.find("has no status"), std::string::npos) << result;
    unmount();
  }
};

TEST_F(StatusPlaceTest, SymlinkIsNotFollowed) {
  const std::string elsewhere = folder("elsewhere");
  ASSERT_EQ(::symlink(elsewhere.c_str(), "/run/flockfs"), 0);
  expect_none();
  EXPECT_TRUE(list_dir(elsewhere).empty());
}

TEST_F(StatusPlaceTest, SomebodyElsesDirectoryIsNotUsed) {
  make_dir("/run/flockfs");
  ASSERT_EQ(::chown("/run/flockfs", kStranger, kStrangerGroup), 0);
  expect_none();
  EXPECT_TRUE(list_dir("/run/flockfs").empty());
}

TEST_F(StatusPlaceTest, OpenDirectoryIsClosed) {
  make_dir("/run/flockfs", 0777);
  mount();
  EXPECT_EQ(stat_of("/run/flockfs").st_mode & 07777, 0700U);
  EXPECT_EQ(status()["pid"], mirror().daemon());
}

TEST_F(StatusPlaceTest, NowhereToPutIt) {
  ASSERT_EQ(::mount(nullptr, "/run", nullptr, MS_REMOUNT | MS_RDONLY, nullptr), 0);
  expect_none();
}

}  // namespace
}  // namespace flockfs::test
