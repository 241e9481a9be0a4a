#include "lock/signal_probe.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <csignal>
#include <cstdio>
#include <cstring>

#include "base/unique_fd.h"

namespace flockfs {

namespace {

constexpr std::uint64_t bit(int signal) { return std::uint64_t{1} << (signal - 1); }

// signal(7): by default these are ignored, stop the process or continue it; every other one ends it.
constexpr std::uint64_t kHarmlessByDefault = bit(SIGCHLD) | bit(SIGURG) | bit(SIGWINCH) | bit(SIGCONT) | bit(SIGSTOP) |
                                             bit(SIGTSTP) | bit(SIGTTIN) | bit(SIGTTOU);

std::optional<std::uint64_t> hexadecimal(std::string_view text) {
  while (!text.empty() && (text.front() == ' ' || text.front() == '\t')) text.remove_prefix(1);
  std::uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value, 16);
  if (error != std::errc{} || end != text.data() + text.size()) return std::nullopt;
  return value;
}

// Feeds the file to the parser line by line. A line longer than the buffer (Groups: of a process with thousands of
// them) is dropped: none that we need is long. False with errno if the file cannot be read.
bool parse_file(int fd, SignalSetsParser& parser) {
  std::array<char, 4096> buffer;  // the usual file is 1.5 KiB
  std::size_t kept = 0;
  bool dropping = false;
  while (!parser.complete()) {
    const ssize_t got = read(fd, buffer.data() + kept, buffer.size() - kept);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return got == 0;
    std::string_view text(buffer.data(), kept + static_cast<std::size_t>(got));
    for (std::size_t end = text.find('\n'); end != std::string_view::npos; end = text.find('\n')) {
      if (!dropping) parser.line(text.substr(0, end));
      dropping = false;
      text.remove_prefix(end + 1);
    }
    if (text.size() == buffer.size()) dropping = true;
    kept = dropping ? 0 : text.size();
    std::memmove(buffer.data(), text.data(), kept);
  }
  return true;
}

}  // namespace

void SignalSetsParser::line(std::string_view text) {
  const std::size_t colon = text.find(':');
  if (colon == std::string_view::npos) return;
  const std::string_view key = text.substr(0, colon);
  const std::string_view value = text.substr(colon + 1);
  if (key == "State") {
    const std::size_t letter = value.find_first_not_of(" \t");
    gone_ = letter != std::string_view::npos && (value[letter] == 'Z' || value[letter] == 'X' || value[letter] == 'x');
    return;
  }
  struct Field {
    std::string_view key;
    std::uint64_t SignalSets::*set;
  };
  static constexpr std::array<Field, 5> kFields{{{"SigPnd", &SignalSets::thread_pending},
                                                 {"ShdPnd", &SignalSets::process_pending},
                                                 {"SigBlk", &SignalSets::blocked},
                                                 {"SigIgn", &SignalSets::ignored},
                                                 {"SigCgt", &SignalSets::caught}}};
  for (std::size_t i = 0; i < kFields.size(); ++i) {
    if (key != kFields[i].key) continue;
    const std::optional<std::uint64_t> set = hexadecimal(value);
    if (!set) return;
    sets_.*(kFields[i].set) = *set;
    seen_ |= 1U << i;
  }
}

std::optional<SignalSets> parse_signal_sets(std::string_view status_text) {
  SignalSetsParser parser;
  while (!status_text.empty()) {
    const std::size_t end = std::min(status_text.find('\n'), status_text.size());
    parser.line(status_text.substr(0, end));
    status_text.remove_prefix(std::min(end + 1, status_text.size()));
  }
  if (!parser.complete()) return std::nullopt;
  return parser.sets();
}

bool ends_a_wait(const SignalSets& sets) {
  const std::uint64_t acting = (sets.thread_pending | sets.process_pending) & ~sets.blocked;
  return (acting & (sets.caught | ~(sets.ignored | kHarmlessByDefault))) != 0;
}

bool ProcSignalProbe::must_end(pid_t tid) {
  if (tid <= 0) return true;
  std::array<char, 32> path;
  std::snprintf(path.data(), path.size(), "/proc/%d/status", static_cast<int>(tid));
  const UniqueFd fd(open(path.data(), O_RDONLY | O_CLOEXEC));
  SignalSetsParser parser;
  const bool read_whole = fd.valid() && parse_file(fd.get(), parser);
  // Out of descriptors or memory just now: the next look will tell. Anything else means gone (ENOENT, ESRCH) or hidden.
  if (!read_whole) return errno != EMFILE && errno != ENFILE && errno != ENOMEM;
  return parser.gone() || !parser.complete() || ends_a_wait(parser.sets());
}

}  // namespace flockfs
