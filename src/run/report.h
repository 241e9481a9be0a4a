#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>

#include "base/clock.h"
#include "run/wait_board.h"

namespace flockfs {

// What all mirrors of a run have done so far.
struct RunTotals {
  std::uint64_t opened = 0;
  std::uint64_t locked = 0;
  std::uint64_t passed = 0;    // not selected by prefix and exclude
  std::uint64_t unlocked = 0;  // without a lock that they should have
  std::uint64_t refused = 0;
  std::uint64_t waited = 0;
  Duration waited_time{};
  std::optional<std::uint64_t> bytes;  // none: the kernel reads and writes some files itself
};

// The live line, no wider than `columns`; nothing in it can act on a terminal.
[[nodiscard]] std::string live_text(const RunTotals& totals, const WaitBoard& waits, TimePoint now,
                                    std::size_t columns);

// The summary at the end: lines for people, each with a newline.
[[nodiscard]] std::string summary_text(const RunTotals& totals, const WaitBoard& waits);

// One line of the terminal on stderr, rewritten in place; what COMMAND writes comes over it. Used by one thread.
class LiveLine {
 public:
  // Shown where stderr is a terminal.
  explicit LiveLine(bool wanted);

  [[nodiscard]] bool shown() const { return shown_; }
  // How wide the terminal is now.
  [[nodiscard]] static std::size_t columns();
  // Writes it, unless that would have to wait, or the terminal is somebody else's at the moment.
  void draw(const std::string& text);
  void clear();

 private:
  const bool shown_;
  bool drawn_ = false;
};

}  // namespace flockfs
