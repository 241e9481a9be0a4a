// Issue 6, point 3: flockfs under a service manager: readiness, and the unit.

#include <fcntl.h>
#include <poll.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/un.h>
#include <unistd.h>

#include <cctype>
#include <cerrno>
#include <csignal>
#include <cstddef>
#include <set>
#include <sstream>
#include <string>
#include <vector>

#include "harness/tracer.h"
#include "harness/users.h"
#include "service_fixture.h"

namespace flockfs::test {
namespace {

// The service manager's end of sd_notify(3).
class NotifySocket {
 public:
  // `name` as in $NOTIFY_SOCKET.
  explicit NotifySocket(const std::string& name) : socket_(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0)) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    name.copy(address.sun_path, sizeof address.sun_path - 1);
    if (name.front() == '@') address.sun_path[0] = '\0';
    const auto size = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + name.size());
    EXPECT_EQ(::bind(socket_.get(), reinterpret_cast<const sockaddr*>(&address), size), 0) << errno_name(errno);
  }
  // What is said next; empty if nothing is in time.
  [[nodiscard]] std::string hear(Millis time) const {
    pollfd ready{socket_.get(), POLLIN, 0};
    if (::poll(&ready, 1, static_cast<int>(time.count())) != 1) return {};
    char bytes[256];
    const ssize_t got = ::recv(socket_.get(), bytes, sizeof bytes, MSG_DONTWAIT);
    return got > 0 ? std::string(bytes, static_cast<std::size_t>(got)) : std::string{};
  }

 private:
  UniqueFd socket_;
};

TEST_F(ServiceTest, ReadinessIsToldWhenTheMirrorServes) {
  for (const std::string& name : {tree() / "notify", "@flockfs-test" + std::to_string(::getpid())}) {
    const NotifySocket manager(name);
    const auto daemon = start({source(), mnt()}, {.environment = {"NOTIFY_SOCKET=" + name}});
    EXPECT_EQ(manager.hear(kPatience), "READY=1") << daemon->err();
    expect_locked_open();
    stop(*daemon);
  }
}

TEST_F(ServiceTest, NothingIsToldOfAMirrorThatFails) {
  const NotifySocket manager(tree() / "notify");
  const auto daemon = start({tree() / "missing", mnt()}, {.environment = {"NOTIFY_SOCKET=" + (tree() / "notify")}});
  EXPECT_EQ(daemon->exit_code(), 1);
  EXPECT_EQ(manager.hear(Millis(0)), "");
}

TEST_F(ServiceTest, ManagerThatIsGoneHarmsNobody) {
  const auto daemon = start({source(), mnt()}, {.environment = {"NOTIFY_SOCKET=" + (tree() / "missing")}});
  ASSERT_TRUE(comes_up()) << daemon->err();
  expect_locked_open();
  stop(*daemon);
  EXPECT_NE(daemon->err().find("event=error op=notify"), std::string::npos) << daemon->err();
}

class UnitTest : public ServiceTest {
 protected:
  [[nodiscard]] static std::string unit_text() {
    return read_file(build_directory() + "/packaging/systemd/flockfs@.service");
  }
  // The values of all lines that set this, one after the other.
  [[nodiscard]] static std::vector<std::string> values_of(const std::string& directive) {
    std::vector<std::string> values;
    std::istringstream lines(unit_text());
    for (std::string line; std::getline(lines, line);) {
      if (!line.starts_with(directive + "=")) continue;
      std::istringstream words(line.substr(directive.size() + 1));
      for (std::string word; words >> word;) values.push_back(word);
    }
    return values;
  }
  [[nodiscard]] static bool there_is(const std::string& program) {
    return run_program({"sh", "-c", "command -v " + program}).exit_code == 0;
  }
};

TEST_F(UnitTest, SystemdTakesTheUnits) {
  if (!there_is("systemd-analyze")) GTEST_SKIP() << "no systemd here";
  std::string text = unit_text();
  const std::string begins = "ExecStart=";
  const std::size_t at = text.find(begins) + begins.size();
  text.replace(at, text.find(' ', at) - at, flockfs_program());  // an installed one is not there
  const std::string unit = tree() / "flockfs@srv-mirror.service";
  const std::string mount_unit = tree() / "srv-mirror.mount";
  write_file(unit, text);
  write_file(mount_unit, read_file(build_directory() + "/packaging/systemd/srv-mirror.mount"));
  for (const std::string& path : {unit, mount_unit}) {
    const ProgramResult verified = run_program({"systemd-analyze", "verify", "--man=no", path});
    EXPECT_EQ(verified.exit_code, 0) << verified;
    EXPECT_EQ(verified.err.find(path), std::string::npos) << verified;
  }
  const ProgramResult secure =
      run_program({"systemd-analyze", "security", "--no-pager", "--offline=true", "--threshold=60", unit});
  EXPECT_EQ(secure.exit_code, 0) << secure;
}

// systemd.exec(5), "Sandboxing": these give the service a mount namespace of its own, where nobody would see the
// mirror.
TEST_F(UnitTest, NothingInTheUnitHidesTheMount) {
  std::istringstream lines(unit_text());
  for (std::string line; std::getline(lines, line);) {
    for (const std::string directive : {"Private",
                                        "Protect",
                                        "ReadOnlyPaths",
                                        "ReadWritePaths",
                                        "InaccessiblePaths",
                                        "ExecPaths",
                                        "NoExecPaths",
                                        "TemporaryFileSystem",
                                        "BindPaths",
                                        "BindReadOnlyPaths",
                                        "RootDirectory",
                                        "RootImage",
                                        "MountFlags",
                                        "MountAPIVFS",
                                        "MountImages",
                                        "ExtensionImages",
                                        "ExtensionDirectories",
                                        "DynamicUser",
                                        "JoinsNamespaceOf",
                                        "NetworkNamespacePath",
                                        "RestrictFileSystems",
                                        "StateDirectory",
                                        "RuntimeDirectory"}) {
      EXPECT_FALSE(line.starts_with(directive)) << line;
    }
  }
}

// With what the unit leaves to it, the mirror acts for other users, too.
TEST_F(UnitTest, ItsCapabilitiesAreEnough) {
  std::string bounding = "-all";
  for (std::string capability : values_of("CapabilityBoundingSet")) {
    ASSERT_TRUE(capability.starts_with("CAP_")) << capability;
    for (char& c : capability) c = static_cast<char>(std::tolower(c));
    bounding += ",+" + capability.substr(4);
  }
  ASSERT_EQ(::chmod(source().c_str(), 0777), 0);
  write_file(source("private"), "contents");
  ASSERT_EQ(::chown(source("private").c_str(), kStranger, kStrangerGroup), 0);
  ASSERT_EQ(::chmod(source("private").c_str(), 0600), 0);
  const Program daemon({"setpriv", "--bounding-set", bounding, "--no-new-privs", flockfs_program(), "--foreground",
                        "--config", config("source = " + source() + "\n"), mnt()});
  ASSERT_TRUE(comes_up()) << daemon.err();
  EXPECT_TRUE(eventually([&] { return daemon.err().find("passthrough=on") != std::string::npos; })) << daemon.err();
  expect_locked_open();
  EXPECT_TRUE(in_child([&] {
    become_user();
    EXPECT_EQ(read_file(mnt("private")), "contents");
    write_file(mnt("new"), "text");
    EXPECT_EQ(::chmod(mnt("new").c_str(), 04711), 0) << errno_name(errno);
    // That a process has a file open already is seen in its /proc.
    const UniqueFd reader(::open(mnt("private").c_str(), O_RDONLY | O_CLOEXEC));
    const UniqueFd writer(::open(mnt("private").c_str(), O_RDWR | O_CLOEXEC));
    EXPECT_TRUE(writer) << errno_name(errno);
  }));
  EXPECT_EQ(stat_of(source("new")).st_uid, kStranger);
  EXPECT_EQ(stat_of(source("new")).st_gid, kStrangerGroup);
  EXPECT_EQ(stat_of(source("new")).st_mode, static_cast<mode_t>(S_IFREG | 04711));
  EXPECT_TRUE(in_child([&] {
    EXPECT_EQ(::mknod(mnt("device").c_str(), S_IFCHR | 0600, makedev(1, 3)), 0) << errno_name(errno);
    EXPECT_EQ(::chown(mnt("new").c_str(), 1, 1), 0) << errno_name(errno);
  }));
}

// Calls that the unit forbids end with EPERM, so the daemon must make none.
TEST_F(UnitTest, ItForbidsNoCallThatIsMade) {
  if (!there_is("systemd-analyze")) GTEST_SKIP() << "no systemd here";
  std::set<std::string> forbidden;
  for (std::string group : values_of("SystemCallFilter")) {
    if (group.front() == '~') group.erase(0, 1);
    std::istringstream lines(run_program({"systemd-analyze", "--no-pager", "syscall-filter", group}).out);
    for (std::string line; std::getline(lines, line);) {
      const std::size_t name = line.find_first_not_of(' ');
      if (name != 0 && name != std::string::npos && line[name] != '#') forbidden.insert(line.substr(name));
    }
  }
  ASSERT_EQ(forbidden.count("ptrace"), 1U);
  const std::string report = tree() / "calls";
  Program daemon(
      {"strace", "-f", "-qq", "-c", "-U", "name", "-o", report, flockfs_program(), "--foreground", source(), mnt()},
      {.environment = {kTraceable}});
  ASSERT_TRUE(comes_up()) << daemon.err();
  EXPECT_TRUE(in_child([&] {
    EXPECT_EQ(read_file(mnt("f")), "contents");
    write_file(mnt("new"), "text");
    EXPECT_EQ(::truncate(mnt("new").c_str(), 1), 0);
    EXPECT_EQ(::rename(mnt("new").c_str(), mnt("newer").c_str()), 0);
    EXPECT_EQ(list_dir(mnt()).size(), 2U);
    const UniqueFd fd(::open(mnt("f").c_str(), O_RDWR | O_CLOEXEC));
    EXPECT_EQ(::flock(fd.get(), LOCK_EX), 0);
  }));
  EXPECT_TRUE(eventually([&] { return run_program({"umount", mnt()}).exit_code == 0; }));
  EXPECT_EQ(daemon.exit_code(), 0) << daemon.err();
  std::istringstream calls(read_file(report));
  int count = 0;
  for (std::string call; calls >> call; ++count) EXPECT_EQ(forbidden.count(call), 0U) << call;
  EXPECT_GT(count, 10);
}

}  // namespace
}  // namespace flockfs::test
