#include "status/terminal.h"

#include <langinfo.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <string_view>
#include <utility>

namespace flockfs {
namespace {

using std::chrono::steady_clock;

constexpr std::array kSignals{SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGTSTP, SIGWINCH};
// The other screen, and no cursor; and back.
constexpr std::string_view kEnter = "\033[?1049h\033[?25l\033[H\033[2J";
constexpr std::string_view kLeave = "\033[?25h\033[?1049l";

bool write_all(std::string_view text) {
  while (!text.empty()) {
    const ssize_t written = ::write(STDOUT_FILENO, text.data(), text.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return false;
    text.remove_prefix(static_cast<std::size_t>(written));
  }
  return true;
}

}  // namespace

Screen screen_of_stdout() {
  Screen screen;
  screen.charset = std::string_view(::nl_langinfo(CODESET)) == "UTF-8" ? Charset::kUtf8 : Charset::kAscii;
  winsize size{};
  if (::isatty(STDOUT_FILENO) != 0 && ::ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0) {
    screen.columns = size.ws_col;
    if (size.ws_row > 0) screen.rows = size.ws_row;
  }
  return screen;
}

Result<LiveDisplay> LiveDisplay::open(For whom) {
  sigset_t set;
  sigemptyset(&set);
  for (const int signal : kSignals) sigaddset(&set, signal);
  if (::sigprocmask(SIG_BLOCK, &set, nullptr) != 0) return errno_error();
  UniqueFd signals(::signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK));
  if (!signals) return errno_error("cannot prepare for signals");
  LiveDisplay display(std::move(signals), whom);
  display.enter();
  return display;
}

LiveDisplay::LiveDisplay(UniqueFd signals, For whom)
    : signals_(std::move(signals)),
      whom_(whom),
      terminal_(whom == For::kPeople && ::isatty(STDOUT_FILENO) != 0),
      keys_(terminal_ && ::isatty(STDIN_FILENO) != 0) {}

LiveDisplay::LiveDisplay(LiveDisplay&& other) noexcept
    : signals_(std::move(other.signals_)),
      whom_(other.whom_),
      terminal_(other.terminal_),
      keys_(other.keys_),
      entered_(std::exchange(other.entered_, false)),
      before_(std::exchange(other.before_, std::nullopt)) {}

LiveDisplay::~LiveDisplay() { leave(); }

void LiveDisplay::enter() {
  if (!terminal_) return;
  termios settings{};
  if (keys_ && ::tcgetattr(STDIN_FILENO, &settings) == 0) {
    before_ = settings;
    settings.c_lflag &= ~static_cast<tcflag_t>(ICANON | ECHO);
    (void)::tcsetattr(STDIN_FILENO, TCSANOW, &settings);
  }
  entered_ = true;
  (void)write_all(kEnter);
}

void LiveDisplay::leave() {
  if (!std::exchange(entered_, false)) return;
  (void)write_all(kLeave);
  if (before_) (void)::tcsetattr(STDIN_FILENO, TCSADRAIN, &*before_);
  before_.reset();
}

bool LiveDisplay::draw(const std::vector<std::string>& lines) {
  std::string text = terminal_ ? "\033[H" : "";
  for (std::size_t i = 0; i < lines.size(); ++i) {
    // No line feed after the last row: it would scroll.
    const bool last = terminal_ && i + 1 == lines.size();
    text.append(lines[i]).append(terminal_ ? "\033[K" : "").append(last ? "" : "\n");
  }
  if (terminal_) text += "\033[J";
  if (!terminal_ && whom_ == For::kPeople) text += "\n";
  return write_all(text);
}

bool LiveDisplay::wait(std::chrono::milliseconds time) {
  const auto until = steady_clock::now() + time;
  for (;;) {
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(until - steady_clock::now()).count();
    if (left <= 0) return true;
    std::array<pollfd, 2> events{{{signals_.get(), POLLIN, 0}, {keys_ ? STDIN_FILENO : -1, POLLIN, 0}}};
    if (::poll(events.data(), events.size(), static_cast<int>(left)) < 0 && errno != EINTR) return true;
    Next next = events[0].revents != 0 ? on_signal() : Next::kWait;
    if (next == Next::kWait && events[1].revents != 0) next = on_key();
    if (next != Next::kWait) return next == Next::kDraw;
  }
}

LiveDisplay::Next LiveDisplay::on_signal() {
  signalfd_siginfo info{};
  if (::read(signals_.get(), &info, sizeof info) != sizeof info) return Next::kWait;
  if (info.ssi_signo == SIGWINCH) return Next::kDraw;
  if (info.ssi_signo != SIGTSTP) return Next::kEnd;
  leave();
  (void)::kill(::getpid(), SIGSTOP);
  enter();
  return Next::kDraw;
}

LiveDisplay::Next LiveDisplay::on_key() {
  char key = 0;
  const ssize_t got = ::read(STDIN_FILENO, &key, 1);
  if (got == 0 || (got < 0 && errno != EINTR && errno != EAGAIN)) return Next::kEnd;  // the terminal is gone
  if (got > 0 && (key == 'q' || key == 'Q')) return Next::kEnd;
  return got > 0 ? Next::kDraw : Next::kWait;
}

}  // namespace flockfs
