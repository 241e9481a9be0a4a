// Issue 6, point 1: however a run ends, the mirror and its daemon are gone within a second, and nobody is ever shown
// the source without locks.

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <csignal>
#include <fstream>
#include <string>
#include <vector>

#include "run_test.h"

namespace flockfs::test {
namespace {

class RunEndTest : public RunTest {
 protected:
  void SetUp() override { ASSERT_EQ(::mkfifo((tree() / "fifo").c_str(), 0600), 0); }

  // Says "open" once it holds a lock on the file, then waits for a line in the FIFO.
  const std::string kHolds = "exec 3<$S/f; echo $$ >$T/pid; touch $T/open; read line <$T/fifo";

  [[nodiscard]] pid_t command_process() const { return std::stoi(read_file(tree() / "pid")); }
  // Not one that has ended and nobody has asked for yet.
  [[nodiscard]] static bool runs(pid_t pid) {
    std::string stat;
    std::getline(std::ifstream("/proc/" + std::to_string(pid) + "/stat"), stat);
    const auto state = stat.rfind(") ");
    return state != std::string::npos && stat[state + 2] != 'Z';
  }
  [[nodiscard]] static bool is_gone(pid_t pid) {
    return eventually([pid] { return !runs(pid); }, Millis(1000));
  }
};

TEST_F(RunEndTest, NothingIsLeftWhenCommandHasEnded) {
  EXPECT_EQ(run_shell("cat $S/f").exit_code, 0);
  EXPECT_TRUE(processes().empty()) << "the runner itself waits for its mirrors";
  EXPECT_EQ(source_lock(source("f")), LockSeen::kFree);
}

TEST_F(RunEndTest, NothingIsLeftWhenCommandIsKilled) {
  const auto program = start_shell(kHolds);
  ASSERT_TRUE(comes("open")) << program->err();
  ::kill(command_process(), SIGKILL);
  EXPECT_EQ(program->exit_code(), 128 + SIGKILL);
  EXPECT_TRUE(all_gone());
  EXPECT_TRUE(becomes_free(source("f")));
}

TEST_F(RunEndTest, CommandAndMirrorsDieWithTheRunner) {
  const std::string other = folder("other");
  const auto program = start({source(), other, "--", "sh", "-c", kHolds});
  ASSERT_TRUE(comes("open")) << program->err();
  EXPECT_EQ(mirrors_of(program->pid()).size(), 2u);
  const pid_t command = command_process();
  program->process().signal(SIGKILL);
  EXPECT_EQ(program->exit_code(), 128 + SIGKILL);
  EXPECT_TRUE(all_gone());
  EXPECT_TRUE(is_gone(command));
  EXPECT_TRUE(becomes_free(source("f")));
}

// Before the first mount, between two, while COMMAND is being started: killed later and later, until COMMAND runs.
TEST_F(RunEndTest, RunnerCanBeKilledAtAnyTime) {
  const std::string other = folder("other");
  int late = 0;
  for (Millis delay(0); late < 3 && delay < Millis(2000); delay += Millis(1) + delay / 16) {
    const auto program = start({source(), other, "--", "sh", "-c", kHolds});
    pause_for(delay);
    program->process().signal(SIGKILL);
    EXPECT_EQ(program->exit_code(), 128 + SIGKILL);
    ASSERT_TRUE(all_gone()) << "killed after " << delay.count() << " ms";
    if (exists(tree() / "open")) ++late;
    ::unlink((tree() / "open").c_str());
  }
  EXPECT_EQ(late, 3) << "it never came so far";
  EXPECT_TRUE(becomes_free(source("f")));
}

TEST_F(RunEndTest, LockFilesGoWhenTheRunnerIsKilled) {
  const auto program =
      start_shell("exec 3>>$S/f; touch $T/open; read line <$T/fifo", {"--rw", "--lock=flock+lockfile"});
  ASSERT_TRUE(comes("open")) << program->err();
  EXPECT_TRUE(exists(source("f.lock")));
  program->process().signal(SIGKILL);
  EXPECT_EQ(program->exit_code(), 128 + SIGKILL);
  EXPECT_TRUE(all_gone());
  EXPECT_EQ(list_dir(source()), std::vector<std::string>{"f"});
}

TEST_F(RunEndTest, MirrorThatDiesIsSeenByCommandAndInTheStatus) {
  // What is asked while the last thread of the mirror ends gets ECONNABORTED (fs/fuse/dev.c, fuse_abort_conn).
  const auto program =
      start_shell(kHolds + "; until cat $S/f 2>&1 | grep -q 'not connected'; do :; done; ls $S; exit 0");
  ASSERT_TRUE(comes("open")) << program->err();
  const auto mirrors = mirrors_of(program->pid());
  ASSERT_EQ(mirrors.size(), 1u);
  ::kill(mirrors[0], SIGKILL);
  EXPECT_TRUE(is_gone(mirrors[0]));
  write_file(tree() / "fifo", "go\n");
  EXPECT_EQ(program->exit_code(), 125) << program->err();
  EXPECT_EQ(program->out(), "");
  EXPECT_NE(program->err().find("was killed by signal 9"), std::string::npos) << program->err();
  EXPECT_NE(program->err().find("Transport endpoint is not connected"), std::string::npos) << program->err();
}

// Whichever of the two ends the runner sees first.
TEST_F(RunEndTest, MirrorThatDiesAsCommandEndsIsSeen) {
  for (int round = 0; round < 10; ++round) {
    const auto program = start_shell("touch $T/open; read mirror <$T/fifo; kill -9 $mirror; exit 0");
    ASSERT_TRUE(comes("open")) << program->err();
    const auto mirrors = mirrors_of(program->pid());
    ASSERT_EQ(mirrors.size(), 1u);
    write_file(tree() / "fifo", std::to_string(mirrors[0]) + "\n");
    ASSERT_EQ(program->exit_code(), 125) << round << " " << program->err();
    EXPECT_NE(program->err().find("was killed by signal 9"), std::string::npos) << program->err();
    ::unlink((tree() / "open").c_str());
  }
}

// As when systemd stops a service: COMMAND may still have something to read, and then ends by itself.
TEST_F(RunEndTest, MirrorServesUntilTheRunnerStopsIt) {
  const auto program = start_shell(kHolds + "; cat $S/f; exit 3");
  ASSERT_TRUE(comes("open")) << program->err();
  const auto mirrors = mirrors_of(program->pid());
  ASSERT_EQ(mirrors.size(), 1u);
  for (const int number : {SIGTERM, SIGINT, SIGHUP, SIGTERM}) ::kill(mirrors[0], number);
  write_file(tree() / "fifo", "go\n");
  EXPECT_EQ(program->exit_code(), 3) << program->err();
  EXPECT_EQ(program->out(), "contents");
}

// What COMMAND leaves behind in the background is not killed, but the source is out of its reach.
TEST_F(RunEndTest, WhoeverIsLeftBehindFindsADeadMirror) {
  const auto result =
      run_shell("cd $S; (exec >$T/out 2>&1; read line <$T/fifo; cat $S/f; cat f; ls $S; touch $T/over) & exit 4");
  EXPECT_EQ(result.exit_code, 4) << result;
  EXPECT_TRUE(all_gone());
  write_file(tree() / "fifo", "go\n");
  ASSERT_TRUE(comes("over"));
  const std::string out = read_file(tree() / "out");
  EXPECT_EQ(out.find("contents"), std::string::npos) << out;
  EXPECT_NE(out.find("Transport endpoint is not connected"), std::string::npos) << out;
}

TEST_F(RunEndTest, FilesThatOthersHaveOpenDoNotHoldUpTheEnd) {
  const auto result = run_shell("(exec 3<$S/f; echo x >$T/second; read line <$T/fifo) & read line <$T/second; exit 5",
                                {}, {.before_exec = [this] { ::mkfifo((tree() / "second").c_str(), 0600); }});
  EXPECT_EQ(result.exit_code, 5) << result;
  EXPECT_TRUE(all_gone());
  EXPECT_TRUE(becomes_free(source("f")));
  write_file(tree() / "fifo", "go\n");
}

TEST_F(RunEndTest, SignalsReachCommandOnce) {
  for (const auto& [name, number] : std::vector<std::pair<std::string, int>>{
           {"INT", SIGINT}, {"TERM", SIGTERM}, {"HUP", SIGHUP}, {"USR1", SIGUSR1}}) {
    SCOPED_TRACE(name);
    const auto program = start_shell("trap 'echo got' " + name +
                                     "; touch $T/open; n=0; while [ $n -lt 30 ]; do "
                                     "read line <$T/fifo && exit 9; n=$((n+1)); done");
    ASSERT_TRUE(comes("open")) << program->err();
    program->process().signal(number);
    EXPECT_TRUE(eventually([&] { return program->out() == "got\n"; })) << program->out();
    write_file(tree() / "fifo", "go\n");
    EXPECT_EQ(program->exit_code(), 9) << program->err();
    EXPECT_EQ(program->out(), "got\n");
    ::unlink((tree() / "open").c_str());
  }
}

// By a shell without job control, by one with it, by the stop of a service.
TEST_F(RunEndTest, SignalsToTheWholeGroupReachCommandOnce) {
  const auto program = start_shell(
      "trap 'echo got' TERM; touch $T/open; n=0; while [ $n -lt 30 ]; do "
      "read line <$T/fifo && exit 9; n=$((n+1)); done",
      {}, {.before_exec = [] { ::setpgid(0, 0); }});
  ASSERT_TRUE(comes("open")) << program->err();
  std::string wanted;
  // Two at once may be one for the shell: so often.
  for (int times = 1; times <= 12; ++times) {
    wanted += "got\n";
    ::kill(-program->pid(), SIGTERM);
    EXPECT_TRUE(eventually([&] { return program->out().size() >= wanted.size(); })) << program->out();
    pause_for(Millis(50));
    EXPECT_EQ(program->out(), wanted);
  }
  program->process().signal(SIGTERM);
  EXPECT_TRUE(eventually([&] { return program->out() == wanted + "got\n"; })) << program->out();
  write_file(tree() / "fifo", "go\n");
  EXPECT_EQ(program->exit_code(), 9) << program->err();
}

TEST_F(RunEndTest, SignalThatKillsCommandIsItsStatus) {
  const auto program = start_shell(kHolds);
  ASSERT_TRUE(comes("open")) << program->err();
  program->process().signal(SIGTERM);
  EXPECT_EQ(program->exit_code(), 128 + SIGTERM);
}

// Where no shell looks after them, the runner must not stand still for good.
TEST_F(RunEndTest, CommandCanBeStoppedByItselfWhereThereIsNoTerminal) {
  const auto program = start_shell(kHolds + "; exit 8", {}, {.before_exec = [] { ::setsid(); }});
  ASSERT_TRUE(comes("open")) << program->err();
  const pid_t command = command_process();
  const auto is_stopped = [command] {
    std::string stat;
    std::getline(std::ifstream("/proc/" + std::to_string(command) + "/stat"), stat);
    return stat.find(") T ") != std::string::npos;
  };
  for (const pid_t goes_on : {command, program->pid()}) {
    ::kill(command, SIGSTOP);
    EXPECT_TRUE(eventually(is_stopped));
    ::kill(goes_on, SIGCONT);
    EXPECT_TRUE(eventually([&] { return !is_stopped(); }));
  }
  write_file(tree() / "fifo", "go\n");
  EXPECT_EQ(program->exit_code(), 8) << program->err();
}

// In the FUSE request of an open that waits, too.
TEST_F(RunEndTest, CommandThatWaitsForALockIsInterrupted) {
  const ForeignLock foreign(source("f"), LOCK_EX);
  const auto program = start({source(), "--", "cat", source("f")});
  ASSERT_TRUE(has_flocks(source("f"), 1, 1));
  program->process().signal(SIGINT);
  EXPECT_EQ(program->exit_code(), 128 + SIGINT);
  EXPECT_TRUE(all_gone());
}

}  // namespace
}  // namespace flockfs::test
