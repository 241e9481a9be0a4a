// flockfs-status: who holds what, who waits for whom, as it is.

#include "harness/status.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <csignal>
#include <cstdlib>
#include <string>
#include <thread>
#include <vector>

#include "harness/crowd.h"
#include "harness/record_lock.h"

namespace flockfs::test {
namespace {

class StatusTest : public MirrorWithStatusTest {
 protected:
  void SetUp() override {
    write_file(source("f"), "contents");
    write_file(source("g"), "contents");
  }
  // What this process waits for, once it is seen to.
  [[nodiscard]] Json wait_of(pid_t pid) const {
    const Json seen = status_when(mnt(), [&](const Json& now) { return !entry_of(now["waiting"], pid).is_null(); });
    const Json waiting = entry_of(seen["waiting"], pid);
    EXPECT_FALSE(waiting.is_null()) << seen;
    return waiting;
  }
  [[nodiscard]] Json hold_of(pid_t pid) const { return entry_of(status()["held"], pid); }
};

void expect_blocked_by(const Json& waiting, const Json& pid, const std::string& mode, bool through_mirror) {
  ASSERT_EQ(waiting.value("blocked_by", Json::array()).size(), 1U) << waiting;
  const Json& blocker = waiting["blocked_by"][0];
  EXPECT_EQ(blocker["pid"], pid) << waiting;
  EXPECT_EQ(blocker["mode"], mode) << waiting;
  EXPECT_EQ(blocker["through_mirror"], through_mirror) << waiting;
}

TEST_F(StatusTest, HolderAndWaiterInTheMirror) {
  mount();
  Opener writer(mnt("f"), O_RDWR);
  ASSERT_TRUE(writer.opens());
  Opener reader(mnt("f"), O_RDONLY);
  ASSERT_TRUE(mirror().waits(reader.pid()));
  const Json waiting = wait_of(reader.pid());
  EXPECT_EQ(waiting["path"], source("f"));
  EXPECT_EQ(waiting["mode"], "shared");
  EXPECT_EQ(waiting["comm"], "mount_tests");
  EXPECT_GT(waiting["waited_s"], 0.0);
  expect_blocked_by(waiting, writer.pid(), "exclusive", true);
  const Json seen = status();
  EXPECT_EQ(seen["source"], source());
  EXPECT_EQ(seen["mountpoint"], mnt());
  EXPECT_EQ(seen["pid"], mirror().daemon());
  EXPECT_EQ(seen["counters"]["locked"], 1);
  EXPECT_EQ(seen["counters"]["waited"], 1);
  EXPECT_GE(seen["requests"]["open"], 2);
  EXPECT_EQ(seen["held_total"], 1);
  const Json held = entry_of(seen["held"], writer.pid());
  EXPECT_EQ(held["path"], source("f"));
  EXPECT_EQ(held["mode"], "exclusive");
  EXPECT_EQ(held["lock"], "flock");
  EXPECT_GT(held["since_s"], 0.0);
  EXPECT_FALSE(held.contains("deleted"));
  EXPECT_FALSE(held.contains("long"));
  writer.close();
  ASSERT_TRUE(reader.opens());
  EXPECT_TRUE(status()["waiting"].empty());
  EXPECT_EQ(hold_of(reader.pid())["mode"], "shared");
  reader.close();
  const Json over = status_when(mnt(), [](const Json& now) { return now["held"].empty(); });
  EXPECT_TRUE(over["held"].empty()) << over;
  EXPECT_GT(over["wait_seconds_total"], 0.0);
}

TEST_F(StatusTest, TextNamesThem) {
  mount();
  Opener writer(mnt("f"), O_RDWR);
  ASSERT_TRUE(writer.opens());
  Opener reader(mnt("f"), O_RDONLY);
  ASSERT_TRUE(mirror().waits(reader.pid()));
  const ProgramResult result = run_status({mnt()});
  EXPECT_EQ(result.exit_code, 0) << result;
  EXPECT_NE(result.out.find("\nHELD 1\n"), std::string::npos) << result;
  EXPECT_NE(result.out.find("\nWAITING 1\n"), std::string::npos) << result;
  EXPECT_NE(result.out.find("      for mount_tests " + std::to_string(writer.pid()) + " (exclusive)\n"),
            std::string::npos)
      << result;
  writer.close();
  ASSERT_TRUE(reader.opens());
  reader.close();
}

TEST_F(StatusTest, HolderOutside) {
  mount();
  ForeignLock foreign(source("f"), LOCK_SH);
  Opener writer(mnt("f"), O_RDWR);
  ASSERT_TRUE(mirror().waits(writer.pid()));
  expect_blocked_by(wait_of(writer.pid()), ::getpid(), "shared", false);
  foreign.release();
  ASSERT_TRUE(writer.opens());
  writer.close();
}

// The kernel does not say whose an open file description's lock is.
TEST_F(StatusTest, RecordLocksOutside) {
  mount({.options = {"lock=ofd"}});
  {
    const RecordHolder nobody(source("f"), F_WRLCK, RecordLock::kOfd);
    Opener reader(mnt("f"), O_RDONLY);
    ASSERT_TRUE(mirror().waits(reader.pid()));
    expect_blocked_by(wait_of(reader.pid()), nullptr, "exclusive", false);
  }
  {
    const RecordHolder somebody(source("g"), F_WRLCK, RecordLock::kPosix);
    Opener reader(mnt("g"), O_RDONLY);
    ASSERT_TRUE(mirror().waits(reader.pid()));
    expect_blocked_by(wait_of(reader.pid()), somebody.pid(), "exclusive", false);
  }
}

TEST_F(StatusTest, EachKindOfLockIsNamed) {
  for (const std::string lock : {"flock", "ofd", "flock+ofd", "flock+lockfile"}) {
    SCOPED_TRACE(lock);
    mount({.options = {"lock=" + lock}});
    Opener writer(mnt("f"), O_RDWR);
    ASSERT_TRUE(writer.opens());
    EXPECT_EQ(hold_of(writer.pid())["lock"], lock);
    writer.close();
    Opener reader(mnt("f"), O_RDONLY);
    ASSERT_TRUE(reader.opens());
    EXPECT_EQ(hold_of(reader.pid())["lock"], lock == "flock+lockfile" ? "flock" : lock);
    reader.close();
    unmount();
  }
}

// An upgrade waits for the other reader, not for itself; what it has is held.
TEST_F(StatusTest, UpgradeWaitsForTheOthers) {
  mount();
  Opener other(mnt("f"), O_RDONLY);
  ASSERT_TRUE(other.opens());
  Child upgrading([&](Peer& test) {
    const UniqueFd reader = open_file(mnt("f"), O_RDONLY);
    test.say("reads");
    const UniqueFd writer = open_file(mnt("f"), O_RDWR);
    test.say("writes");
    test.await("end");
  });
  ASSERT_TRUE(upgrading.says("reads"));
  ASSERT_TRUE(mirror().waits(upgrading.pid()));
  const Json seen = status_when(mnt(), [&](const Json& now) {
    return entry_of(now["waiting"], upgrading.pid()).value("blocked_by", Json::array()).size() == 1;
  });
  expect_blocked_by(entry_of(seen["waiting"], upgrading.pid()), other.pid(), "shared", true);
  EXPECT_EQ(entry_of(seen["held"], upgrading.pid())["mode"], "shared");
  other.close();
  ASSERT_TRUE(upgrading.says("writes"));
  EXPECT_EQ(hold_of(upgrading.pid())["mode"], "exclusive");
  upgrading.say("end");
  EXPECT_TRUE(upgrading.ends_well());
}

TEST_F(StatusTest, FlockCallOfAClient) {
  mount();
  Opener other(mnt("f"), O_RDONLY);
  ASSERT_TRUE(other.opens());
  Child caller([&](Peer& test) {
    const UniqueFd fd = open_file(mnt("f"), O_RDONLY);
    test.say("open");
    EXPECT_EQ(::flock(fd.get(), LOCK_EX), 0);
    test.say("locked");
    test.await("end");
  });
  ASSERT_TRUE(caller.says("open"));
  ASSERT_TRUE(mirror().waits(caller.pid()));
  const Json waiting = wait_of(caller.pid());
  EXPECT_EQ(waiting["mode"], "exclusive");
  EXPECT_EQ(waiting["path"], source("f"));
  expect_blocked_by(waiting, other.pid(), "shared", true);
  EXPECT_TRUE(hold_of(caller.pid()).is_null()) << "what a flock(2) has given up while it waits";
  other.close();
  ASSERT_TRUE(caller.says("locked"));
  EXPECT_EQ(hold_of(caller.pid())["mode"], "exclusive");
  caller.say("end");
  EXPECT_TRUE(caller.ends_well());
}

// Where opens take record locks, a client's flock(2) is another lock beside them.
TEST_F(StatusTest, FlockOfAClientBesideRecordLocks) {
  mount({.options = {"lock=ofd"}});
  Child caller([&](Peer& test) {
    const UniqueFd fd = open_file(mnt("f"), O_RDONLY);
    EXPECT_EQ(::flock(fd.get(), LOCK_EX), 0);
    test.say("locked");
    test.await("end");
  });
  ASSERT_TRUE(caller.says("locked"));
  std::vector<std::string> locks;
  const Json seen = status();
  for (const Json& held : seen["held"]) {
    locks.push_back(held["lock"].get<std::string>() + " " + held["mode"].get<std::string>());
  }
  EXPECT_EQ(locks, (std::vector<std::string>{"ofd shared", "flock exclusive"}));
  caller.say("end");
  EXPECT_TRUE(caller.ends_well());
}

TEST_F(StatusTest, SomebodysLockFile) {
  mount({.options = {"lock=flock+lockfile"}});
  write_file(source("f.lock"), "");
  Opener writer(mnt("f"), O_RDWR);
  ASSERT_TRUE(mirror().waits(writer.pid()));
  const Json waiting = wait_of(writer.pid());
  EXPECT_EQ(waiting["path"], source("f.lock"));
  EXPECT_TRUE(waiting["blocked_by"].empty()) << waiting;
  ASSERT_EQ(::unlink(source("f.lock").c_str()), 0);
  ASSERT_TRUE(writer.opens());
  writer.close();
}

TEST_F(StatusTest, FilesWithoutANameAreMarked) {
  mount();
  Opener holder(mnt("f"), O_RDWR);
  ASSERT_TRUE(holder.opens());
  EXPECT_TRUE(in_child([&] { EXPECT_EQ(::unlink(mnt("f").c_str()), 0); }));
  const Json held = hold_of(holder.pid());
  EXPECT_EQ(held["path"], source("f")) << "its last name, as in the log";
  EXPECT_EQ(held.value("deleted", false), true) << held;
  EXPECT_NE(run_status({mnt()}).out.find("/f (deleted)\n"), std::string::npos);
  holder.close();
}

TEST_F(StatusTest, LongHoldsAreMarked) {
  mount({.options = {"hold_warn=1"}});
  Opener holder(mnt("f"), O_RDWR);
  ASSERT_TRUE(holder.opens());
  const Json seen =
      status_when(mnt(), [&](const Json& now) { return entry_of(now["held"], holder.pid()).contains("long"); });
  EXPECT_EQ(entry_of(seen["held"], holder.pid()).value("long", false), true) << seen;
  holder.close();
}

TEST_F(StatusTest, NamesThatAreNoUtf8) {
  write_file(source("caf\xE9\033[2J"), "contents");
  mount();
  Opener holder(mnt("caf\xE9\033[2J"), O_RDONLY);
  ASSERT_TRUE(holder.opens());
  const Json held = hold_of(holder.pid());
  EXPECT_EQ(held["path"], source("caf\\xE9\\x1B[2J"));
  EXPECT_EQ(held.value("path_escaped", false), true) << held;
  const ProgramResult text = run_status({mnt()});
  EXPECT_EQ(text.out.find('\033'), std::string::npos) << text;
  EXPECT_NE(text.out.find("caf\\xE9\\x1B[2J\n"), std::string::npos) << text;
  holder.close();
}

// Two processes that each have another thread, which might close what the other waits for.
TEST_F(StatusTest, CirclesThatWaitOnAreMarked) {
  mount();
  const auto cross = [this](const char* first, const char* second) {
    return [this, first, second](Peer& test) {
      const UniqueFd held = open_file(mnt(first), O_RDWR);
      std::thread([] { ::pause(); }).detach();
      test.say("has one");
      test.await("go on");
      (void)open_error(mnt(second), O_RDWR);
    };
  };
  Child one(cross("f", "g"));
  Child other(cross("g", "f"));
  ASSERT_TRUE(one.says("has one"));
  ASSERT_TRUE(other.says("has one"));
  one.say("go on");
  ASSERT_TRUE(mirror().waits(one.pid()));
  other.say("go on");
  ASSERT_TRUE(mirror().waits(other.pid()));
  const auto suspected = [](const Json& now) {
    for (const Json& waiting : now["waiting"]) {
      if (waiting.value("possible_deadlock", false)) return true;
    }
    return false;
  };
  const Json seen = status_when(mnt(), suspected);
  EXPECT_TRUE(suspected(seen)) << seen;
  expect_blocked_by(entry_of(seen["waiting"], one.pid()), other.pid(), "exclusive", true);
  expect_blocked_by(entry_of(seen["waiting"], other.pid()), one.pid(), "exclusive", true);
  one.signal(SIGKILL);
  other.signal(SIGKILL);
}

TEST_F(StatusTest, HundredsWhoWait) {
  const int waiters = std::getenv("FLOCKFS_TEST_FULL") != nullptr ? 1000 : 200;
  mount();
  ForeignLock foreign(source("f"), LOCK_EX);
  Crowd crowd(waiters, [&](int /*index*/) { return open_error(mnt("f"), O_RDWR); });
  ASSERT_TRUE(mirror().waits_for(source("f"), static_cast<std::size_t>(waiters), kPatience * 6));
  const Json seen = status();
  EXPECT_EQ(seen["waiting_total"], waiters);
  EXPECT_EQ(seen["waiting"].size(), static_cast<std::size_t>(waiters));
  for (const Json& waiting : seen["waiting"]) {
    ASSERT_TRUE(waiting["pid"].is_number()) << waiting;
    expect_blocked_by(waiting, ::getpid(), "exclusive", false);
  }
  foreign.release();
  EXPECT_TRUE(crowd.all_succeed());
}

}  // namespace
}  // namespace flockfs::test
