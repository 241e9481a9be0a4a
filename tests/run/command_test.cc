// Issue 6, point 1: COMMAND under flockfs-run behaves as it does without, but for the locks.

#include <fcntl.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <csignal>
#include <string>
#include <vector>

#include "harness/connection.h"
#include "harness/status.h"
#include "harness/users.h"
#include "run_test.h"

namespace flockfs::test {
namespace {

using RunCommandTest = RunTest;

TEST_F(RunCommandTest, WhatCommandOpensIsLockedUnderItsUsualPath) {
  const auto program = start_shell("exec 3<$S/f; touch $T/open; read line <$T/fifo; cat <&3");
  ASSERT_EQ(::mkfifo((tree() / "fifo").c_str(), 0600), 0);
  ASSERT_TRUE(comes("open")) << program->err();
  EXPECT_EQ(source_lock(source("f")), LockSeen::kShared);
  for (const MountEntry& entry : mount_table()) EXPECT_NE(entry.source, source());
  write_file(tree() / "fifo", "go\n");
  EXPECT_EQ(program->exit_code(), 0) << program->err();
  EXPECT_EQ(program->out(), "contents");
  EXPECT_TRUE(becomes_free(source("f")));
}

TEST_F(RunCommandTest, CommandWaitsForALockOutside) {
  ForeignLock foreign(source("f"), LOCK_EX);
  const auto program = start_shell("echo begin; cat $S/f");
  ASSERT_TRUE(has_flocks(source("f"), 1, 1));
  EXPECT_EQ(program->out(), "begin\n");
  foreign.release();
  EXPECT_EQ(program->exit_code(), 0) << program->err();
  EXPECT_EQ(program->out(), "begin\ncontents");
}

TEST_F(RunCommandTest, NamesInAnArchiveAreTheUsualOnes) {
  make_dir(source("d"));
  write_file(source("d/g"), "more");
  const std::vector<std::string> tar{"tar", "--create", "--absolute-names", "--sort=name", source()};
  const auto plain = run_program(tar);
  std::vector<std::string> arguments{source(), "--"};
  arguments.insert(arguments.end(), tar.begin(), tar.end());
  const auto locked = run(arguments);
  EXPECT_EQ(locked.exit_code, 0) << locked.err;
  EXPECT_TRUE(locked.out == plain.out) << "the archives differ";
}

TEST_F(RunCommandTest, ItIsReadOnlyUnlessToldOtherwise) {
  const auto refused = run_shell("echo changed >$S/f");
  EXPECT_NE(refused.exit_code, 0);
  EXPECT_NE(refused.err.find("Read-only file system"), std::string::npos) << refused;
  EXPECT_EQ(read_file(source("f")), "contents");

  const auto program = start_shell("exec 3>>$S/f; touch $T/open; read line <$T/fifo; echo changed >&3", {"--rw"});
  ASSERT_EQ(::mkfifo((tree() / "fifo").c_str(), 0600), 0);
  ASSERT_TRUE(comes("open")) << program->err();
  EXPECT_EQ(source_lock(source("f")), LockSeen::kExclusive);
  write_file(tree() / "fifo", "go\n");
  EXPECT_EQ(program->exit_code(), 0) << program->err();
  EXPECT_EQ(read_file(source("f")), "contentschanged\n");
}

TEST_F(RunCommandTest, ItsExitStatusIsCommands) {
  EXPECT_EQ(run_shell("exit 0").exit_code, 0);
  EXPECT_EQ(run_shell("exit 3").exit_code, 3);
  EXPECT_EQ(run_shell("exit 255").exit_code, 255);
  EXPECT_EQ(run_shell("kill -TERM $$").exit_code, 128 + SIGTERM);
  EXPECT_EQ(run_shell("kill -KILL $$").exit_code, 128 + SIGKILL);
}

TEST_F(RunCommandTest, FailuresOfItsOwnHaveStatusesOfTheirOwn) {
  const auto missing = run({source(), "--", tree() / "no-such-program"});
  EXPECT_EQ(missing.exit_code, 127) << missing;
  EXPECT_NE(missing.err.find("no-such-program"), std::string::npos) << missing;
  const auto not_a_program = run({source(), "--", source("f")});
  EXPECT_EQ(not_a_program.exit_code, 126) << not_a_program;
  const std::vector<std::vector<std::string>> wrong = {{},
                                                       {source()},
                                                       {"--", "true"},
                                                       {source(), "--"},
                                                       {"--nonsense", source(), "--", "true"},
                                                       {"--foreground", source(), "--", "true"},
                                                       {tree() / "missing", "--", "true"},
                                                       {source("f"), "--", "true"},
                                                       {"/proc", "--", "true"},
                                                       {"--prefix", "/elsewhere", source(), "--", "true"}};
  for (const auto& arguments : wrong) {
    const auto result = run(arguments);
    EXPECT_EQ(result.exit_code, 125) << result;
    EXPECT_EQ(result.err.rfind("flockfs-run: ", 0), 0u) << result;
  }
  EXPECT_EQ(run({"--help"}).exit_code, 0);
  EXPECT_NE(run({"--version"}).out.find("flockfs-run "), std::string::npos);
}

TEST_F(RunCommandTest, FailIfUnlockedTellsOfFilesThatWereRefused) {
  const std::string script = "cat $S/f; exit 0";
  EXPECT_EQ(run_shell(script, {"--fail-if-unlocked"}).exit_code, 0);
  const ForeignLock foreign(source("f"), LOCK_EX);
  const auto refused = run_shell(script, {"--timeout=0", "--fail-if-unlocked"});
  EXPECT_EQ(refused.exit_code, 75) << refused;
  EXPECT_NE(refused.err.find("1 refused"), std::string::npos) << refused;
  EXPECT_EQ(run_shell(script, {"--timeout=0"}).exit_code, 0);
  EXPECT_EQ(run_shell("cat $S/f || exit 3", {"--timeout=0", "--fail-if-unlocked"}).exit_code, 75);
}

TEST_F(RunCommandTest, FailIfUnlockedTellsOfFilesThatWereOpenedUnlocked) {
  const ForeignLock foreign(source("f"), LOCK_EX);
  const auto unlocked = run_shell("cat $S/f", {"-o", "timeout=0,on_timeout=unlocked,fail_if_unlocked"});
  EXPECT_EQ(unlocked.exit_code, 75) << unlocked;
  EXPECT_EQ(unlocked.out, "contents");
  EXPECT_NE(unlocked.err.find("1 WITHOUT a lock"), std::string::npos) << unlocked;
}

// What a program can see of how it was started.
constexpr const char* kAllThereIs =
    "umask; ulimit -a; ulimit -Ha; id; pwd; env | sort; "
    "grep -E '^(Uid|Gid|Groups|Sig[BIC]..|Cap...|NoNewPrivs|Seccomp):' /proc/self/status; "
    "cat /proc/self/oom_score_adj; cut -d' ' -f5-8 /proc/$$/stat; nice; ls /proc/$$/fd; cat <&9";

TEST_F(RunCommandTest, CommandFindsEverythingAsItsCallerLeftIt) {
  write_file(tree() / "nine", "through descriptor 9");
  ProgramSetup setup;
  setup.directory = tree().path();
  setup.environment = {"S=" + source(), "T=" + tree().path(), "ODD=a\nb=c"};
  for (const std::string& pair : sanitizer_environment(tree() / "scratch")) setup.environment.push_back(pair);
  setup.before_exec = [this] {
    ASSERT_EQ(::dup2(::open((tree() / "nine").c_str(), O_RDONLY | O_CLOEXEC), 9), 9);
    ASSERT_EQ(::fcntl(9, F_SETFD, 0), 0);  // where it was 9 from the first
    ::close(2);
    ASSERT_EQ(::open("/dev/null", O_WRONLY), 2);
    ASSERT_EQ(::setpgid(0, 0), 0);
    ::umask(0137);
    const rlimit files{300, 4000};
    ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &files), 0);
    ::signal(SIGHUP, SIG_IGN);
    ::signal(SIGCHLD, SIG_IGN);
    ::signal(SIGPIPE, SIG_IGN);
    sigset_t set;
    ::sigemptyset(&set);
    for (const int signal : {SIGUSR1, SIGTERM}) ::sigaddset(&set, signal);
    ::sigprocmask(SIG_BLOCK, &set, nullptr);
    become_user(0, 0, {kTeam, 77});
  };
  setup = clean(setup);
  // The number of the process group, which is the program's own, is told apart from the rest.
  const auto seen = [](ProgramResult result, pid_t group) {
    const std::string number = std::to_string(group);
    for (auto at = result.out.find(number); at != std::string::npos; at = result.out.find(number, at)) {
      result.out.replace(at, number.size(), "GROUP");
    }
    return result.out;
  };
  // Some shells begin by letting all signals through.
  for (const auto& words : {std::vector<std::string>{"sh", "-c", kAllThereIs},
                            std::vector<std::string>{"grep", "^Sig[BIC]", "/proc/self/status"}}) {
    Program plain(words, setup);
    ASSERT_EQ(plain.exit_code(), 0);
    std::vector<std::string> under{flockfs_run_program(), source(), "--"};
    under.insert(under.end(), words.begin(), words.end());
    Program locked(under, setup);
    ASSERT_EQ(locked.exit_code(kPatience * 4), 0);
    EXPECT_EQ(seen({0, locked.out(), ""}, locked.pid()), seen({0, plain.out(), ""}, plain.pid()));
    EXPECT_EQ(plain.out().find("through descriptor 9") != std::string::npos, words[0] == "sh") << plain.out();
  }
}

TEST_F(RunCommandTest, StandardDescriptorsThatAreClosedStayClosed) {
  ProgramSetup setup;
  setup.before_exec = [] {
    ::close(0);
    ::close(2);
  };
  const std::string script = "ls /proc/$$/fd";
  const auto plain = run_program({"sh", "-c", script}, clean(setup));
  EXPECT_EQ(plain.out.find("0\n"), std::string::npos);
  const auto result = run_shell(script, {}, setup);
  EXPECT_EQ(result.exit_code, 0);
  EXPECT_EQ(result.out, plain.out);
}

TEST_F(RunCommandTest, OptionsReachTheMirror) {
  make_dir(source("d"));
  write_file(source("d/g"), "more");
  const std::string log = tree() / "log";
  const auto result = run_shell("cat $S/f $S/d/g", {"--prefix=d", "--debug", "--log-file=" + log});
  EXPECT_EQ(result.exit_code, 0) << result;
  EXPECT_NE(result.err.find("2 files opened, 1 locked, 1 not selected"), std::string::npos) << result;
  const LogReader reader(log);
  EXPECT_TRUE(reader.wait_for({.event = "lock", .path = source("d/g")})) << reader.text();
  EXPECT_TRUE(reader.wait_for({.event = "pass", .path = source("f"), .reason = "prefix"})) << reader.text();
}

TEST_F(RunCommandTest, StatusByPathInsideAndByProcessOutside) {
  const auto program = start_shell("exec 3<$S/f; " + status_program() +
                                   " --json $S >$T/status.new; mv $T/status.new $T/status; exec sleep 1000");
  ASSERT_TRUE(comes("status")) << program->err();
  const Json inside = Json::parse(read_file(tree() / "status"));
  EXPECT_EQ(inside.value("mountpoint", ""), source());
  const Json outside = status_of(std::to_string(program->pid()));
  ASSERT_EQ(outside["held"].size(), 1U) << outside;
  EXPECT_EQ(outside["held"][0].value("path", ""), source("f"));
  EXPECT_EQ(run_status({source()}).exit_code, 1) << "it is not mounted here";
}

}  // namespace
}  // namespace flockfs::test
