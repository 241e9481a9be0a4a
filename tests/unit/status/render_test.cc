// What people see.

#include "status/render.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "status/report.h"

namespace flockfs::test {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

MirrorState example() {
  MirrorState state;
  state.source = "/srv/data";
  state.mountpoint = "/mnt/data";
  state.up = seconds(3 * 3600 + 7 * 60);
  state.passthrough = true;
  state.hold_warn = seconds(60);
  state.counters = {{"opens", 1234}, {"locked", 1200},   {"passed", 34},   {"unlocked", 0}, {"waited", 12},
                    {"timeouts", 0}, {"interrupted", 1}, {"deadlocks", 0}, {"lapsed", 0}};
  state.waited = milliseconds(3250);
  state.requests = {{"lookup", 120}, {"getattr", 13}, {"open", 1234}, {"release", 1230}};
  state.all_held = 2;
  state.held = {{"/srv/data/a", false, LockMode::kShared, "flock", 812, seconds(75), true},
                {"/srv/data (deleted)", true, LockMode::kExclusive, "flock", 0, milliseconds(12), false}};
  state.all_waiting = 1;
  state.waiting = {{"/srv/data/a",
                    LockMode::kExclusive,
                    900,
                    milliseconds(1200),
                    true,
                    {{812, LockMode::kShared, true}, {77, LockMode::kShared, false}, {-1, LockMode::kShared, false}}}};
  return state;
}

std::string command_of(pid_t pid) { return pid == 812 ? "tar" : pid == 900 ? "carbon-cache" : "backup"; }

std::vector<std::string> lines_of(const MirrorState& state, const Screen& screen = {}) {
  std::string report = status_report(state, 4711, command_of);
  const std::size_t version = report.find(FLOCKFS_VERSION);
  report.replace(version, std::string_view(FLOCKFS_VERSION).size(), "1.2.3");
  const auto lines = render_status(report, screen);
  EXPECT_TRUE(lines.ok());
  return lines.ok() ? *lines : std::vector<std::string>{};
}

std::string text_of(const std::vector<std::string>& lines) {
  std::string text;
  for (const std::string& line : lines) text += line + "\n";
  return text;
}

TEST(RenderTest, GoldenText) {
  EXPECT_EQ(text_of(lines_of(example())),
            R"(/srv/data on /mnt/data
pid 4711  up 3h07m  passthrough on  version 1.2.3
opens 1234  locked 1200  passed 34  unlocked 0  waited 12 (3.2s in all)
timeouts 0  interrupted 1  deadlocks 0  lapsed 0
requests:  lookup 120  getattr 13  open 1234  release 1230

HELD 2
PID  COMMAND  MODE       LOCK     HELD   PATH
812  tar      shared     flock   1m15s!  /srv/data/a
  -  -        exclusive  flock  0.012s   /srv/data (deleted)
!: for longer than hold_warn, 1m00s

WAITING 1
PID  COMMAND       MODE       WAITED  PATH
900  carbon-cache  exclusive    1.2s  /srv/data/a
      for tar 812 (shared)
      for backup 77 (shared, outside the mirror)
      for a process that cannot be seen (shared, outside the mirror)
      maybe for ever: those wait for this one
)");
}

TEST(RenderTest, NothingHeldAndNobodyWaits) {
  MirrorState state = example();
  state.held.clear();
  state.waiting.clear();
  state.all_held = state.all_waiting = 0;
  const auto text = text_of(lines_of(state));
  EXPECT_NE(text.find("\nHELD 0\n\nWAITING 0\n"), std::string::npos) << text;
}

TEST(RenderTest, FitsTheScreenWhateverTheNamesAre) {
  MirrorState state = example();
  state.source = "/" + std::string(300, 's');
  state.mountpoint = "/" + std::string(300, 'm');
  state.held[0].path = "/srv/" + std::string(4000, 'x') + "/end";
  state.held[0].lock = "flock+ofd+lockfile";
  state.held[1].path = "/srv/\u65e5\u672c\u8a9e" + std::string(70, 'y');
  for (const std::size_t columns : {40U, 80U, 132U}) {
    for (const std::string& line : lines_of(state, {.columns = columns})) {
      EXPECT_LE(width_of(line), columns) << line;
    }
  }
  const auto lines = lines_of(state);
  EXPECT_TRUE(std::ranges::any_of(lines, [](const std::string& line) { return line.ends_with("x/end"); }))
      << "the end of a path is shown";
}

TEST(RenderTest, NoNameReachesTheTerminalAsItIs) {
  MirrorState state = example();
  state.mountpoint = "/mnt/\033]0;title\007";
  state.held[0].path = "/srv/a\nHELD 99\r\033[2J\xC2\x9B\xE9";
  state.waiting[0].path = "/srv/\u202Egpj.exe";
  for (const Charset charset : {Charset::kUtf8, Charset::kAscii}) {
    const std::string text = text_of(lines_of(state, {.columns = 200, .charset = charset}));
    EXPECT_TRUE(std::ranges::none_of(text, [](char byte) {
      return (static_cast<unsigned char>(byte) < ' ' && byte != '\n') || byte == '\x7F';
    })) << text;
    EXPECT_EQ(text.find("\n HELD 99"), std::string::npos);
    EXPECT_NE(text.find("/srv/a\\nHELD 99\\x0D\\x1B[2J\\xC2\\x9B\\xE9"), std::string::npos) << text;
    EXPECT_NE(text.find("/srv/\\xE2\\x80\\xAEgpj.exe"), std::string::npos) << text;
    EXPECT_NE(text.find("/mnt/\\x1B]0;title\\x07"), std::string::npos) << text;
  }
}

TEST(RenderTest, RowsOfTheScreenAreNotExceeded) {
  const auto lines = lines_of(example(), {.rows = 10});
  ASSERT_EQ(lines.size(), 10U);
  EXPECT_EQ(lines.back(), "... 10 more lines");
}

TEST(RenderTest, WhatIsNoReportIsAnError) {
  for (const std::string text : {"", "{", "[]", "{}", R"({"version":1})", "null", "\"\\ud800\""}) {
    EXPECT_FALSE(render_status(text, {}).ok()) << text;
  }
}

TEST(RenderTest, SaysHowManyAreNotListed) {
  MirrorState state = example();
  state.all_held = 30000;
  const std::string text = text_of(lines_of(state));
  EXPECT_NE(text.find("HELD 30000 (the first 2 are listed)"), std::string::npos) << text;
}

}  // namespace
}  // namespace flockfs::test
