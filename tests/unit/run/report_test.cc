#include "run/report.h"

#include <gmock/gmock.h>

#include <chrono>

namespace flockfs {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using testing::HasSubstr;
using testing::Not;

WaitBoard waiting_for(const std::string& path) {
  WaitBoard board;
  WaitSeen wait;
  wait.number = 1;
  wait.path = path;
  board.began(0, wait, TimePoint());
  return board;
}

TEST(LiveTextTest, SaysWhatIsGoingOn) {
  RunTotals totals;
  totals.opened = 12;
  EXPECT_EQ(live_text(totals, {}, TimePoint(), 200), "flockfs-run: 12 files opened");
  totals.bytes = 3 << 19;
  EXPECT_EQ(live_text(totals, {}, TimePoint(), 200), "flockfs-run: 12 files opened, 1.5 MiB");
  EXPECT_EQ(live_text(totals, waiting_for("/a b"), TimePoint(milliseconds(1500)), 200),
            "flockfs-run: 12 files opened, 1.5 MiB, waiting 1.500 s: /a b");
}

TEST(LiveTextTest, NamesAreBytesAndDoNothingToTheTerminal) {
  const std::string text = live_text({}, waiting_for("/\x1b[2J\n\r\x07\x7f\xff\u009b"), TimePoint(), 200);
  for (const char c : text) EXPECT_GE(static_cast<unsigned char>(c), 0x20) << text;
  EXPECT_THAT(text, Not(HasSubstr("\x7f")));
  EXPECT_THAT(text, Not(HasSubstr("\xff")));
  EXPECT_THAT(text, HasSubstr("/\\x1B[2J\\n"));
}

TEST(LiveTextTest, FitsTheTerminalAndCutsNoCharacter) {
  for (std::size_t columns = 0; columns < 60; ++columns) {
    const std::string text = live_text({}, waiting_for("/ääääääää"), TimePoint(), columns);
    EXPECT_LE(text.size(), columns);
    EXPECT_NE(static_cast<unsigned char>(text.empty() ? 0 : text.back()), 0xC3) << columns;
  }
}

TEST(SummaryTest, SaysWhatThereWas) {
  RunTotals totals;
  totals.opened = 1;
  totals.locked = 1;
  EXPECT_EQ(summary_text(totals, {}),
            "flockfs-run: 1 file opened, 1 locked, 0 refused\nflockfs-run: nobody had to wait\n");
  totals.opened = 5;
  totals.passed = 2;
  totals.unlocked = 2;
  totals.refused = 3;
  totals.waited = 2;
  totals.waited_time = seconds(12);
  WaitBoard board = waiting_for("/f\n");
  board.ended(0, 1, milliseconds(1234));
  EXPECT_EQ(summary_text(totals, board),
            "flockfs-run: 5 files opened, 1 locked, 2 not selected, 2 WITHOUT a lock, 3 refused\n"
            "flockfs-run: waited 2 times, 12.0 s in all; the longest 1.234 s for '/f\\n'\n");
}

}  // namespace
}  // namespace flockfs
