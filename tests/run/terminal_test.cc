// Issue 6, points 1 and 7: at a terminal flockfs-run is stopped, continued and interrupted as a plain command is, and
// shows what is going on.

#include "terminal.h"

#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <csignal>
#include <fstream>
#include <string>

#include "run_test.h"

namespace flockfs::test {
namespace {

class RunTerminalTest : public RunTest {
 protected:
  void SetUp() override { ASSERT_EQ(::mkfifo((tree() / "fifo").c_str(), 0600), 0); }

  [[nodiscard]] std::vector<std::string> environment() const {
    std::vector<std::string> all{"S=" + source(), "T=" + tree().path()};
    for (const std::string& pair : sanitizer_environment(tree() / "scratch")) all.push_back(pair);
    return all;
  }
  [[nodiscard]] std::unique_ptr<Terminal> at_terminal(const std::string& script,
                                                      const std::vector<std::string>& options = {}) const {
    std::vector<std::string> arguments = options;
    arguments.insert(arguments.end(), {source(), "--", "sh", "-c", script});
    return std::make_unique<Terminal>(command(arguments), environment());
  }
  // "T" while it is stopped.
  [[nodiscard]] static std::string state_of(pid_t pid) {
    std::string stat;
    std::getline(std::ifstream("/proc/" + std::to_string(pid) + "/stat"), stat);
    const auto end = stat.rfind(") ");
    return end == std::string::npos ? "" : stat.substr(end + 2, 1);
  }
  [[nodiscard]] pid_t command_process() const { return std::stoi(read_file(tree() / "pid")); }
};

TEST_F(RunTerminalTest, ControlZStopsBothAndTheShellHasThemGoOn) {
  const auto terminal = at_terminal("exec 3<$S/f; echo $$ >$T/pid; touch $T/open; read line <$T/fifo; cat <&3; exit 3");
  ASSERT_TRUE(comes("open")) << terminal->shown();
  for (int time = 0; time < 3; ++time) {
    terminal->type("\x1a");
    ASSERT_EQ(terminal->job(), "stopped " + std::to_string(SIGTSTP)) << terminal->shown();
    EXPECT_TRUE(eventually([&] { return state_of(command_process()) == "T"; }));
    EXPECT_EQ(source_lock(source("f")), LockSeen::kShared) << "the mirror is not stopped";
    terminal->foreground();
    EXPECT_TRUE(eventually([&] { return state_of(command_process()) == "S"; }));
  }
  write_file(tree() / "fifo", "go\n");
  EXPECT_EQ(terminal->job(), "exit 3") << terminal->shown();
  EXPECT_TRUE(terminal->shows("contents"));
}

// vi and its like restore the terminal before they stop; others do not stop at all.
TEST_F(RunTerminalTest, CommandThatTakesNoControlZIsNotStopped) {
  const auto terminal = at_terminal("trap '' TSTP; touch $T/open; read line <$T/fifo; exit 4");
  ASSERT_TRUE(comes("open")) << terminal->shown();
  terminal->type("\x1a");
  EXPECT_EQ(terminal->job(Millis(500)), "");
  write_file(tree() / "fifo", "go\n");
  EXPECT_EQ(terminal->job(), "exit 4") << terminal->shown();
}

TEST_F(RunTerminalTest, ControlCReachesCommandOnce) {
  const auto terminal = at_terminal(
      "trap 'echo interrupted >>$T/log' INT; touch $T/open; n=0; while [ $n -lt 30 ]; do "
      "read line <$T/fifo && exit 9; n=$((n+1)); done");
  ASSERT_TRUE(comes("open")) << terminal->shown();
  terminal->type("\x03");
  ASSERT_TRUE(comes("log"));
  EXPECT_EQ(terminal->job(Millis(300)), "") << "COMMAND goes on, so the runner does";
  write_file(tree() / "fifo", "go\n");
  EXPECT_EQ(terminal->job(), "exit 9") << terminal->shown();
  EXPECT_EQ(read_file(tree() / "log"), "interrupted\n");
}

TEST_F(RunTerminalTest, ControlCEndsACommandThatDoesNotCatchIt) {
  const auto terminal = at_terminal("touch $T/open; exec sleep 1000");
  ASSERT_TRUE(comes("open")) << terminal->shown();
  terminal->type("\x03");
  EXPECT_EQ(terminal->job(), "exit " + std::to_string(128 + SIGINT)) << terminal->shown();
  EXPECT_TRUE(all_gone());
}

TEST_F(RunTerminalTest, CommandReadsTheTerminalAsEver) {
  const auto terminal = at_terminal("echo ask; read answer; echo \"<$answer>\"", {"--quiet"});
  ASSERT_TRUE(terminal->shows("ask")) << terminal->shown();
  terminal->type("yes\n");
  EXPECT_TRUE(terminal->shows("<yes>")) << terminal->shown();
  EXPECT_EQ(terminal->job(), "exit 0");
  EXPECT_EQ(terminal->shown().find("flockfs-run"), std::string::npos) << terminal->shown();
}

TEST_F(RunTerminalTest, LiveLineLeavesQuestionsAlone) {
  for (const std::string modes : {"sane", "-echo", "-icanon"}) {
    SCOPED_TRACE(modes);
    const auto terminal = at_terminal("stty " + modes + "; cat $S/f >/dev/null; printf 'Password? '; read answer; " +
                                      (modes == "sane" ? "" : "cat $S/f; sleep 0.6; ") + "stty sane; exit 2");
    ASSERT_TRUE(terminal->shows("Password? ")) << terminal->shown();
    pause_for(Millis(1100));
    terminal->type("x\n");
    EXPECT_EQ(terminal->job(), "exit 2");
    const std::string shown = terminal->shown();
    const std::string drawn = "file opened\x1b[K";
    const auto first = shown.find(drawn);
    EXPECT_TRUE(modes == "sane" || first == std::string::npos) << shown;
    // One for the file just opened may come late; but it does not come again and again.
    EXPECT_TRUE(first == std::string::npos || shown.find(drawn, first + 1) == std::string::npos) << shown;
  }
}

TEST_F(RunTerminalTest, LiveLineSaysForWhomCommandWaits) {
  const std::string evil = source("evil\n\x1b[2J\x07name");
  write_file(evil, "evil");
  ForeignLock foreign(evil, LOCK_EX);
  const auto terminal = at_terminal("cat $S/f $S/evil*");
  EXPECT_TRUE(terminal->shows("1 file opened")) << terminal->shown();
  const std::string holder = "for run_tests (process " + std::to_string(::getpid()) + ")";
  EXPECT_TRUE(terminal->shows(holder)) << terminal->shown();
  terminal->resize(400);
  EXPECT_TRUE(terminal->shows("evil\\n\\x1B[2J\\x07name")) << terminal->shown();
  EXPECT_EQ(terminal->shown().find("\x1b[2J"), std::string::npos);
  pause_for(Millis(600));  // lines go on being drawn meanwhile
  foreign.release();
  EXPECT_EQ(terminal->job(), "exit 0") << terminal->shown();
  EXPECT_TRUE(terminal->shows("2 files opened, 2 locked, 0 refused")) << terminal->shown();
  EXPECT_TRUE(terminal->shows("waited 1 time")) << terminal->shown();
  EXPECT_TRUE(terminal->shows("locked by run_tests (process " + std::to_string(::getpid()) + ")")) << terminal->shown();
}

TEST_F(RunTerminalTest, LiveLineFitsTheTerminal) {
  const ForeignLock foreign(source("f"), LOCK_EX);
  const auto terminal = at_terminal("cat $S/f");
  terminal->resize(40);
  ASSERT_TRUE(terminal->shows("waiting")) << terminal->shown();
  pause_for(Millis(600));
  const std::string shown = terminal->shown();
  const auto last = shown.rfind("flockfs-run:");
  ASSERT_NE(last, std::string::npos);
  const auto end = shown.find('\x1b', last);
  EXPECT_EQ(end - last, 39u) << shown;
  terminal->type("\x03");
  EXPECT_EQ(terminal->job(), "exit " + std::to_string(128 + SIGINT));
}

TEST_F(RunTerminalTest, QuietShowsNothing) {
  const ForeignLock foreign(source("f"), LOCK_EX);
  const auto terminal = at_terminal("touch $T/open; cat $S/f", {"-q"});
  ASSERT_TRUE(comes("open"));
  pause_for(Millis(900));
  terminal->type("\x03");
  EXPECT_EQ(terminal->job(), "exit " + std::to_string(128 + SIGINT));
  EXPECT_EQ(terminal->shown().find("flockfs-run"), std::string::npos) << terminal->shown();
}

TEST_F(RunTerminalTest, WithoutATerminalThereIsASummaryOnly) {
  ForeignLock foreign(source("f"), LOCK_EX);
  const auto program = start_shell("cat $S/f", {"--passthrough=off"});
  ASSERT_TRUE(has_flocks(source("f"), 1, 1));
  pause_for(Millis(900));
  foreign.release();
  EXPECT_EQ(program->exit_code(), 0);
  const std::string err = program->err();
  EXPECT_EQ(err.find('\r'), std::string::npos) << err;
  EXPECT_EQ(err.find("flockfs-run: 1 file opened, 1 locked, 0 refused, 8 bytes\nflockfs-run: waited 1 time, "), 0u)
      << err;
  EXPECT_NE(err.find("for '" + source("f") + "', locked by run_tests (process "), std::string::npos) << err;
}

TEST_F(RunTerminalTest, QuietLeavesTheSummaryOutToo) {
  const auto result = run_shell("cat $S/f", {"--quiet"});
  EXPECT_EQ(result.exit_code, 0);
  EXPECT_EQ(result.err, "");
}

}  // namespace
}  // namespace flockfs::test
