#include "run/report.h"

#include <poll.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

#include <array>
#include <cstdio>
#include <string_view>

#include "base/printable.h"

namespace flockfs {
namespace {

constexpr std::size_t kUsualColumns = 80;

std::string seconds(Duration time) {
  const double value = std::chrono::duration<double>(time).count();
  std::array<char, 64> text{};
  (void)std::snprintf(text.data(), text.size(), value < 10 ? "%.3f s" : "%.1f s", value);
  return text.data();
}

std::string bytes_text(std::uint64_t bytes) {
  constexpr std::array<const char*, 5> kUnits = {"bytes", "KiB", "MiB", "GiB", "TiB"};
  auto value = static_cast<double>(bytes);
  std::size_t unit = 0;
  for (; value >= 1024 && unit + 1 < kUnits.size(); ++unit) value /= 1024;
  std::array<char, 64> text{};
  (void)std::snprintf(text.data(), text.size(), unit == 0 ? "%.0f %s" : "%.1f %s", value, kUnits.at(unit));
  return text.data();
}

std::string count_of(std::uint64_t number, const std::string& one, const std::string& many) {
  return std::to_string(number) + " " + (number == 1 ? one : many);
}

std::string with_holder(const std::string& holder) { return holder.empty() ? "" : ", locked by " + holder; }

// As much of the text as fits so many columns. What is not ASCII may be two columns wide.
std::string fitting(const std::string& text, std::size_t columns) {
  std::size_t width = 0;
  std::size_t end = 0;
  while (end < text.size()) {
    const auto byte = static_cast<unsigned char>(text[end]);
    const std::size_t length = byte < 0x80 ? 1 : byte < 0xE0 ? 2 : byte < 0xF0 ? 3 : 4;
    width += byte < 0x80 ? 1 : 2;
    if (width > columns) break;
    end += length;
  }
  return text.substr(0, end);
}

// Whether a program shows all of its screen itself, or asks for a password.
bool is_taken() {
  termios modes{};
  return ::tcgetattr(STDERR_FILENO, &modes) == 0 && ((modes.c_lflag & ICANON) == 0 || (modes.c_lflag & ECHO) == 0);
}

}  // namespace

std::string live_text(const RunTotals& totals, const WaitBoard& waits, TimePoint now, std::size_t columns) {
  std::string text = "flockfs-run: " + count_of(totals.opened, "file", "files") + " opened";
  if (totals.bytes) text += ", " + bytes_text(*totals.bytes);
  if (const WaitBoard::Wait* const wait = waits.oldest(); wait != nullptr) {
    text += ", waiting " + seconds(now - wait->since);
    if (!wait->holder.empty()) text += " for " + wait->holder;
    if (waits.waiting() > 1) text += " (and " + count_of(waits.waiting() - 1, "other wait", "other waits") + ")";
    text += ": " + escaped(wait->path);
  }
  return fitting(text, columns);
}

std::string summary_text(const RunTotals& totals, const WaitBoard& waits) {
  std::string text = "flockfs-run: " + count_of(totals.opened, "file", "files") + " opened, " +
                     std::to_string(totals.locked) + " locked";
  if (totals.passed != 0) text += ", " + std::to_string(totals.passed) + " not selected";
  if (totals.unlocked != 0) text += ", " + std::to_string(totals.unlocked) + " WITHOUT a lock";
  text += ", " + std::to_string(totals.refused) + " refused";
  if (totals.bytes) text += ", " + bytes_text(*totals.bytes);
  text += "\n";
  if (totals.waited == 0) return text + "flockfs-run: nobody had to wait\n";
  text += "flockfs-run: waited " + count_of(totals.waited, "time", "times") + ", " + seconds(totals.waited_time) +
          " in all";
  if (const auto& longest = waits.longest(); longest) {
    text += "; the longest " + seconds(longest->waited) + " for '" + escaped(longest->path) + "'" +
            with_holder(longest->holder);
  }
  return text + "\n";
}

LiveLine::LiveLine(bool wanted) : shown_(wanted && ::isatty(STDERR_FILENO) == 1) {}

std::size_t LiveLine::columns() {
  winsize size{};
  if (::ioctl(STDERR_FILENO, TIOCGWINSZ, &size) != 0 || size.ws_col == 0) return kUsualColumns - 1;
  return size.ws_col - 1U;  // in the last column many terminals go to the next line
}

void LiveLine::draw(const std::string& text) {
  if (!shown_ || ::tcgetpgrp(STDERR_FILENO) != ::getpgrp() || is_taken()) return;
  pollfd ready{STDERR_FILENO, POLLOUT, 0};
  if (::poll(&ready, 1, 0) != 1 || (ready.revents & POLLOUT) == 0) return;
  const std::string line = "\r" + text + "\033[K\r";
  drawn_ = ::write(STDERR_FILENO, line.data(), line.size()) > 0;
}

void LiveLine::clear() {
  if (drawn_) draw("");
  drawn_ = false;
}

}  // namespace flockfs
