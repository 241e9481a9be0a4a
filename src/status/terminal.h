#pragma once

#include <termios.h>

#include <chrono>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "base/unique_fd.h"
#include "status/render.h"

namespace flockfs {

// What standard output can show: the size of its terminal, or 80 columns and any number of rows if it is none, and the
// locale's characters. REQUIRES: setlocale(LC_CTYPE, "") was called.
[[nodiscard]] Screen screen_of_stdout();

// A display that is drawn again and again, as top(1) does, until the user ends it by q or a signal (SIGINT, SIGTERM,
// SIGHUP, SIGQUIT). On a terminal: on its other screen, without the cursor, and no key is echoed; SIGTSTP stops it in
// the usual way. Else what is drawn is written one after the other, with an empty line after each if it is for people.
// The destructor leaves the terminal as it was. One at a time; used by the main thread, before any other is started.
class LiveDisplay {
 public:
  enum class For { kPeople, kPrograms };  // kPrograms: as if there were no terminal

  // Blocks those signals for good.
  static Result<LiveDisplay> open(For whom);
  ~LiveDisplay();
  LiveDisplay(LiveDisplay&& other) noexcept;
  LiveDisplay& operator=(LiveDisplay&&) = delete;

  // False if standard output takes no more.
  [[nodiscard]] bool draw(const std::vector<std::string>& lines);

  // Until the next drawing is due. False: the user has had enough.
  [[nodiscard]] bool wait(std::chrono::milliseconds time);

 private:
  enum class Next { kWait, kDraw, kEnd };

  LiveDisplay(UniqueFd signals, For whom);
  void enter();
  void leave();
  Next on_signal();
  Next on_key();

  UniqueFd signals_;
  For whom_;
  bool terminal_ = false;  // standard output is one
  bool keys_ = false;      // standard input is one
  bool entered_ = false;
  std::optional<termios> before_;  // of standard input
};

}  // namespace flockfs
