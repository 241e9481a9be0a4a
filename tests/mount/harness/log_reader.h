#pragma once

#include <sys/types.h>

#include <cstddef>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "harness/deadline.h"

namespace flockfs::test {

// One logfmt line, with the quotes and escapes of its values removed.
struct LogEntry {
  std::string line;
  std::map<std::string, std::string> fields;

  // Empty if there is no such field.
  [[nodiscard]] std::string get(const std::string& key) const;
  [[nodiscard]] bool has(const std::string& key) const { return fields.contains(key); }
  // 0 if there is no such field.
  [[nodiscard]] int number(const std::string& key) const;
};

// What to look for; empty members match everything.
struct LogQuery {
  std::string event{};
  std::string path{};  // of the source, absolute
  std::optional<pid_t> pid{};
  std::string mode{};
  std::string reason{};
};

// Reads the log file of a daemon while that writes it.
class LogReader {
 public:
  explicit LogReader(std::string file) : file_(std::move(file)) {}

  [[nodiscard]] const std::string& file() const { return file_; }
  // All complete lines so far.
  [[nodiscard]] std::vector<LogEntry> entries() const;
  [[nodiscard]] std::vector<LogEntry> matching(const LogQuery& query) const;
  [[nodiscard]] std::size_t count(const LogQuery& query) const { return matching(query).size(); }
  // The first matching line once there is one.
  [[nodiscard]] std::optional<LogEntry> wait_for(const LogQuery& query, Millis time = kPatience) const;
  // At least so many matching lines.
  [[nodiscard]] bool wait_for_count(const LogQuery& query, std::size_t count, Millis time = kPatience) const;
  // The whole file, for messages and for lines that are no logfmt.
  [[nodiscard]] std::string text() const;

 private:
  std::string file_;
};

[[nodiscard]] LogEntry parse_log_line(const std::string& line);

}  // namespace flockfs::test
