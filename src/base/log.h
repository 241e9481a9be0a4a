#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/result.h"

namespace flockfs {

// The log of flockfs: logfmt lines, one decision a line (`event=lock path="/a b" mode=shared pid=12`).
// Writing a line never waits for its sink: lines go through a bounded queue to one thread of their own, so that a full
// pipe or a stuck syslogd cannot hold up a FUSE worker; lines that find the queue full are counted and the count is
// logged. All functions are thread-safe; before log_open() and after log_close() lines go nowhere.

enum class LogLevel : std::uint8_t { kError, kWarning, kInfo, kDebug };

enum class LogTarget : std::uint8_t { kStderr, kFile, kSyslog };

struct LogConfig {
  LogTarget target = LogTarget::kStderr;
  std::string file;  // for kFile: absolute path; appended to, made 0640 if missing
  LogLevel level = LogLevel::kInfo;
};

// Opens the log and starts its thread (so: after the last fork). REQUIRES: not open.
Status log_open(const LogConfig& config);

// Writes out what is queued, within a bounded time, and ends the thread.
void log_close();

// Whether a line of this level would be written: ask before building an expensive line. One atomic load.
[[nodiscard]] bool log_enabled(LogLevel level);

// One line under construction. Keys are literals of [a-z_]; values are quoted and escaped where needed: names are
// bytes, so a newline, a quote, a backslash or a byte that is not printable UTF-8 becomes \n, \", \\ or \xHH.
class LogLine {
 public:
  explicit LogLine(std::string_view event);
  LogLine& text(std::string_view key, std::string_view value);    // quoted where needed
  LogLine& quoted(std::string_view key, std::string_view value);  // always quoted: paths, messages
  LogLine& number(std::string_view key, std::int64_t value);
  LogLine& ms(std::string_view key, double value);  // three decimals
  [[nodiscard]] const std::string& str() const { return line_; }

 private:
  std::string line_;
};

// Queues the line. The line goes to its sink as it is; stderr and the file put `time=…` (UTC, RFC 3339, milliseconds)
// before it.
void log_write(LogLevel level, const LogLine& line);

// `event=error op=… path="…" reason="…"`; path may be empty.
void log_error(std::string_view op, std::string_view path, const Error& error);

// Lines dropped so far because the queue was full.
[[nodiscard]] std::uint64_t log_dropped();

}  // namespace flockfs
