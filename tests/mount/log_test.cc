// DESIGN 1.12 and 2: every decision is logged, one logfmt line each, in a stable format.

#include <fcntl.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/un.h>
#include <unistd.h>

#include <array>
#include <csignal>
#include <regex>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "harness/connection.h"
#include "harness/mirror_test.h"
#include "harness/program.h"

namespace flockfs::test {
namespace {

class LogTest : public MirrorTest {
 protected:
  void SetUp() override { write_file(source("f"), "contents"); }

  // One open and close of the file, after a wait for the test's own lock.
  pid_t open_after_a_wait(int flags) {
    ForeignLock foreign(source("f"), LOCK_EX);
    Opener opener(mnt("f"), flags);
    EXPECT_TRUE(mirror().waits(opener.pid()));
    foreign.release();
    EXPECT_TRUE(opener.opens());
    opener.close();
    return opener.pid();
  }
  void expect_line(const LogQuery& query, const std::string& pattern) {
    const auto entry = log().wait_for(query);
    ASSERT_TRUE(entry) << log().text();
    EXPECT_TRUE(std::regex_match(entry->line, std::regex(pattern))) << entry->line << "\n" << pattern;
  }
};

constexpr const char* kTime = R"(time=\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z )";

TEST_F(LogTest, LinesHaveTheDocumentedFormat) {
  mount();
  const pid_t pid = open_after_a_wait(O_RDWR);
  const std::string path = R"(path="[^"]*/source/f" )";
  const std::string who = "pid=" + std::to_string(pid) + " comm=mount_tests";
  expect_line({.event = "wait", .pid = pid}, kTime + ("event=wait " + path) + "mode=exclusive " + who + ".*");
  expect_line({.event = "lock", .pid = pid},
              kTime + ("event=lock " + path) + R"(mode=exclusive wait_ms=\d+\.\d{3} )" + who);
  expect_line({.event = "unlock", .path = source("f")},
              kTime + ("event=unlock " + path) + R"(mode=exclusive held_ms=\d+\.\d{3} )" + who);
}

TEST_F(LogTest, ModeIsThatOfTheOpen) {
  mount();
  const pid_t reader = open_after_a_wait(O_RDONLY);
  for (const std::string event : {"wait", "lock"}) {
    EXPECT_TRUE(log().wait_for({.event = event, .pid = reader, .mode = "shared"})) << log().text();
  }
  EXPECT_TRUE(log().wait_for({.event = "unlock", .path = source("f"), .mode = "shared"}));
}

TEST_F(LogTest, TimesAreThoseOfTheWaitAndTheHold) {
  mount();
  ForeignLock foreign(source("f"), LOCK_EX);
  Opener opener(mnt("f"), O_RDWR);
  ASSERT_TRUE(mirror().waits(opener.pid()));
  pause_for(Millis(120));
  foreign.release();
  ASSERT_TRUE(opener.opens());
  pause_for(Millis(80));
  opener.close();
  const auto lock = log().wait_for({.event = "lock", .pid = opener.pid()});
  const auto unlock = log().wait_for({.event = "unlock", .path = source("f")});
  ASSERT_TRUE(lock && unlock);
  EXPECT_GE(std::stod(lock->get("wait_ms")), 100);
  EXPECT_LT(std::stod(lock->get("wait_ms")), 120 + static_cast<double>(scaled(Millis(2000)).count()));
  EXPECT_GE(std::stod(unlock->get("held_ms")), 75);
}

TEST_F(LogTest, TruncationByPathIsLoggedLikeAnOpen) {
  mount();
  ForeignLock foreign(source("f"), LOCK_EX);
  Child child([&](Peer&) { EXPECT_EQ(::truncate(mnt("f").c_str(), 3), 0); });
  EXPECT_TRUE(mirror().waits(child.pid()));
  foreign.release();
  EXPECT_TRUE(child.ends_well());
  for (const std::string event : {"lock", "unlock"}) {
    EXPECT_TRUE(log().wait_for({.event = event, .path = source("f"), .pid = child.pid(), .mode = "exclusive"}))
        << log().text();
  }
}

TEST_F(LogTest, OpenThatNeedNotWaitLogsNoWait) {
  mount();
  EXPECT_TRUE(in_child([&] { EXPECT_EQ(read_file(mnt("f")), "contents"); }));
  ASSERT_TRUE(log().wait_for({.event = "unlock"}));
  EXPECT_EQ(log().count({.event = "wait"}), 0u);
  EXPECT_EQ(log().count({.event = "lock"}), 1u);
}

// It joins the lock that its process has, or makes it exclusive.
TEST_F(LogTest, ReopenOfWhatTheProcessHasOpenIsNoWait) {
  mount();
  EXPECT_TRUE(in_child([&] {
    const UniqueFd reader = open_file(mnt("f"), O_RDONLY);
    const UniqueFd writer = open_file(mnt("f"), O_RDWR);
    const UniqueFd again = open_file(mnt("f"), O_RDONLY);
  }));
  ASSERT_TRUE(log().wait_for_count({.event = "unlock"}, 3));
  EXPECT_EQ(log().count({.event = "lock"}), 3u);
  EXPECT_EQ(log().count({.event = "wait"}), 0u) << log().text();
  const LogReader lines = log();
  unmount();
  const auto end = lines.matching({.event = "unmounted"});
  ASSERT_EQ(end.size(), 1u);
  EXPECT_EQ(end.front().get("waited"), "0") << end.front().line;
}

TEST_F(LogTest, EachOpenThatWaitsIsLoggedAndCountedOnce) {
  mount();
  Opener holder(mnt("f"), O_RDWR);
  ASSERT_TRUE(holder.opens());
  Opener reader(mnt("f"), O_RDONLY);
  ASSERT_TRUE(mirror().waits(reader.pid()));
  Opener writer(mnt("f"), O_RDWR);
  ASSERT_TRUE(mirror().waits(writer.pid()));
  holder.close();
  ASSERT_TRUE(reader.opens());
  reader.close();
  ASSERT_TRUE(writer.opens());
  writer.close();
  EXPECT_EQ(log().count({.event = "wait"}), 2u) << log().text();
  const LogReader lines = log();
  unmount();
  const auto end = lines.matching({.event = "unmounted"});
  ASSERT_EQ(end.size(), 1u);
  EXPECT_EQ(end.front().get("waited"), "2") << end.front().line;
}

TEST_F(LogTest, InterruptedWaitIsLogged) {
  mount();
  const ForeignLock foreign(source("f"), LOCK_EX);
  Opener opener(mnt("f"), O_RDWR);
  ASSERT_TRUE(mirror().waits(opener.pid()));
  opener.child().signal(SIGTERM);
  EXPECT_TRUE(log().wait_for({.event = "interrupted", .path = source("f"), .pid = opener.pid(), .mode = "exclusive"}))
      << log().text();
  EXPECT_EQ(log().count({.event = "lock"}), 0u);
}

TEST_F(LogTest, PidIsTheProcessAndNotTheThread) {
  mount();
  Child child([&](Peer&) {
    std::thread thread([&] { EXPECT_EQ(open_error(mnt("f"), O_RDONLY), 0); });
    thread.join();
    EXPECT_EQ(open_error(mnt("f"), O_RDWR), 0);
  });
  EXPECT_TRUE(child.ends_well());
  EXPECT_TRUE(log().wait_for_count({.event = "lock", .pid = child.pid()}, 2)) << log().text();
}

TEST_F(LogTest, CommandNameIsQuotedWhereNeeded) {
  mount();
  EXPECT_TRUE(in_child([&] {
    ASSERT_EQ(::prctl(PR_SET_NAME, "a \"b\"\n=c"), 0);
    EXPECT_EQ(open_error(mnt("f"), O_RDONLY), 0);
  }));
  const auto entry = log().wait_for({.event = "lock"});
  ASSERT_TRUE(entry);
  EXPECT_EQ(entry->get("comm"), "a \"b\"\n=c") << entry->line;
}

TEST_F(LogTest, AwkwardNamesKeepToOneLineAndCanBeReadBack) {
  const std::vector<std::string> names{"new\nline",      "quo\"te",  "back\\slash", "\xff\xfe", "tab\there",
                                       "event=lock x=1", "\x1b[31m", "\xc3\xbc",    "cr\r"};
  mount();
  EXPECT_TRUE(in_child([&] {
    for (const std::string& name : names) write_file(mnt(name), "x");
  }));
  for (const std::string& name : names) {
    EXPECT_TRUE(log().wait_for({.event = "lock", .path = source(name)})) << name << "\n" << log().text();
  }
  for (const char byte : log().text()) EXPECT_TRUE(byte == '\n' || static_cast<unsigned char>(byte) >= ' ') << +byte;
  for (const LogEntry& entry : log().entries()) EXPECT_TRUE(entry.line.starts_with("time=")) << entry.line;
}

TEST_F(LogTest, LevelInfoLeavesOutTheEverydayDecisions) {
  mount({.options = {"log_level=info"}});
  (void)open_after_a_wait(O_RDWR);
  EXPECT_EQ(log().count({.event = "lock"}), 0u);
  EXPECT_EQ(log().count({.event = "unlock"}), 0u);
  EXPECT_EQ(log().count({.event = "wait"}), 1u);
}

TEST_F(LogTest, WaitNamesAllWhoHoldTheLockThroughTheMirror) {
  write_file(source("g"), "other");
  mount();
  Opener first(mnt("f"), O_RDONLY);
  Opener second(mnt("f"), O_RDONLY);
  Opener elsewhere(mnt("g"), O_RDONLY);
  ASSERT_TRUE(first.opens() && second.opens() && elsewhere.opens());
  Opener writer(mnt("f"), O_RDWR);
  const auto entry = log().wait_for({.event = "wait", .path = source("f"), .pid = writer.pid(), .mode = "exclusive"});
  ASSERT_TRUE(entry) << log().text();
  const std::string one = std::to_string(first.pid());
  const std::string other = std::to_string(second.pid());
  const std::string blocked_by = entry->get("blocked_by");
  EXPECT_TRUE(blocked_by == one + "," + other || blocked_by == other + "," + one) << entry->line;
  first.close();
  second.close();
  ASSERT_TRUE(writer.opens());
  writer.close();
  elsewhere.close();
}

TEST_F(LogTest, LongHoldIsWarnedOfOnceAndShortOnesAreNot) {
  mount({.options = {"hold_warn=200", "log_level=warning"}});
  EXPECT_TRUE(in_child([&] { EXPECT_EQ(read_file(mnt("f")), "contents"); }));
  write_file(source("g"), "other");
  Opener opener(mnt("g"), O_RDONLY);
  ASSERT_TRUE(opener.opens());
  const Stopwatch watch;
  const auto entry = log().wait_for({.event = "held", .path = source("g"), .pid = opener.pid(), .mode = "shared"});
  ASSERT_TRUE(entry) << log().text();
  EXPECT_GE(watch.elapsed(), Millis(150));
  EXPECT_GE(std::stod(entry->get("held_ms")), 200);
  EXPECT_EQ(entry->get("comm"), "mount_tests");
  pause_for(Millis(500));
  EXPECT_EQ(log().count({.event = "held"}), 1u) << log().text();
  opener.close();
}

TEST_F(LogTest, FileIsAppendedToAndPrivate) {
  write_file(tree() / "scratch/log", "earlier line\n");
  mount();
  EXPECT_TRUE(log().wait_for({.event = "mounted"}));
  EXPECT_TRUE(log().text().starts_with("earlier line\n"));
  unmount();
  ASSERT_EQ(::unlink((tree() / "scratch/log").c_str()), 0);
  mount();
  EXPECT_EQ(stat_of(tree() / "scratch/log").st_mode & 0007, 0u) << "names of files are nobody's business";
}

// Nobody reads what is behind the log: that must not hold up anybody.
TEST_F(LogTest, FullPipeBehindTheLogHoldsUpNobody) {
  const std::string pipe = tree() / "pipe";
  ASSERT_EQ(::mkfifo(pipe.c_str(), 0600), 0);
  const UniqueFd reader = open_file(pipe, O_RDONLY | O_NONBLOCK);
  mount({.options = {"log_file=" + pipe}});
  EXPECT_TRUE(in_child(
      [&] {
        for (int i = 0; i < 3000; ++i) EXPECT_EQ(open_error(mnt("f"), O_RDONLY), 0);
      },
      kPatience * 2));
  int unread = 0;
  EXPECT_EQ(::ioctl(reader.get(), FIONREAD, &unread), 0);
  EXPECT_GT(unread, 60000) << "the pipe was not full";
}

// A socket that takes what is sent to it, as syslogd's does.
UniqueFd listen_at(const std::string& path) {
  UniqueFd fd(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  path.copy(address.sun_path, sizeof address.sun_path - 1);
  if (::bind(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) fd.reset();
  return fd;
}

// The next message that contains all of this; empty if none comes in time.
std::string hear_message(const UniqueFd& socket, const std::string& text) {
  std::string found;
  const auto heard = [&] {
    std::array<char, 4096> message{};
    ssize_t size = 0;
    while ((size = ::recv(socket.get(), message.data(), message.size(), MSG_DONTWAIT)) > 0) {
      const std::string line(message.data(), static_cast<std::size_t>(size));
      if (line.find(text) != std::string::npos) found = line;
    }
    return !found.empty();
  };
  return eventually(heard) ? found : std::string();
}

// In the background, without a file, the log goes to syslog: the same lines, without a time of their own.
TEST_F(LogTest, BackgroundDaemonLogsToSyslog) {
  const std::string dev = folder("dev");
  for (const auto& [name, number] :
       {std::pair{"null", makedev(1, 3)}, {"urandom", makedev(1, 9)}, {"fuse", makedev(10, 229)}}) {
    ASSERT_EQ(::mknod((dev + "/" + name).c_str(), S_IFCHR | 0666, number), 0);
  }
  const UniqueFd syslog = listen_at(dev + "/log");
  ASSERT_TRUE(syslog.valid());
  ASSERT_EQ(::mount(dev.c_str(), "/dev", nullptr, MS_BIND, nullptr), 0);  // in the test's own mount namespace
  const auto started = run_program({flockfs_program(), "-o", "log_level=debug", source(), mnt()});
  EXPECT_EQ(started.exit_code, 0) << started;
  const auto daemon = find_daemon(mnt());
  ASSERT_TRUE(daemon);
  const Guardian guardian(find_mount(mnt())->minor, mnt(), *daemon, Millis(60000));
  EXPECT_TRUE(in_child([&] { EXPECT_EQ(read_file(mnt("f")), "contents"); }));
  const std::string line = hear_message(syslog, "event=lock path=\"" + source("f") + "\" mode=shared");
  EXPECT_NE(line.find("flockfs"), std::string::npos) << line;
  EXPECT_EQ(line.find("time="), std::string::npos) << line;
  EXPECT_TRUE(eventually([&] { return run_program({"umount", mnt()}).exit_code == 0; }));
  EXPECT_TRUE(eventually([&] { return !find_daemon(mnt()); }));
  ::umount2("/dev", MNT_DETACH);
}

}  // namespace
}  // namespace flockfs::test
