#include "harness/log_reader.h"

#include <algorithm>
#include <fstream>
#include <iterator>
#include <sstream>

namespace flockfs::test {
namespace {

int hex_digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return 0;
}

// Reads a quoted value from just behind its opening quote; leaves `at` behind the closing one.
std::string quoted_value(const std::string& line, std::size_t& at) {
  std::string value;
  while (at < line.size() && line[at] != '"') {
    if (line[at] != '\\' || at + 1 >= line.size()) {
      value += line[at++];
      continue;
    }
    const char escape = line[at + 1];
    at += 2;
    if (escape == 'n') {
      value += '\n';
    } else if (escape == 'x' && at + 1 < line.size()) {
      value += static_cast<char>(hex_digit(line[at]) * 16 + hex_digit(line[at + 1]));
      at += 2;
    } else {
      value += escape;
    }
  }
  ++at;
  return value;
}

bool matches(const LogEntry& entry, const LogQuery& query) {
  const auto same = [&](const char* key, const std::string& wanted) {
    return wanted.empty() || entry.get(key) == wanted;
  };
  return same("event", query.event) && same("path", query.path) && same("mode", query.mode) &&
         same("reason", query.reason) && (!query.pid || entry.get("pid") == std::to_string(*query.pid));
}

}  // namespace

std::string LogEntry::get(const std::string& key) const {
  const auto found = fields.find(key);
  return found == fields.end() ? std::string() : found->second;
}

int LogEntry::number(const std::string& key) const {
  const std::string text = get(key);
  return text.empty() ? 0 : std::stoi(text);
}

LogEntry parse_log_line(const std::string& line) {
  LogEntry entry{line, {}};
  std::size_t at = 0;
  while (at < line.size()) {
    const std::size_t equals = line.find('=', at);
    if (equals == std::string::npos) break;
    const std::string key = line.substr(at, equals - at);
    at = equals + 1;
    if (at < line.size() && line[at] == '"') {
      entry.fields[key] = quoted_value(line, ++at);
    } else {
      const std::size_t end = std::min(line.find(' ', at), line.size());
      entry.fields[key] = line.substr(at, end - at);
      at = end;
    }
    while (at < line.size() && line[at] == ' ') ++at;
  }
  return entry;
}

std::string LogReader::text() const {
  std::ifstream file(file_, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

std::vector<LogEntry> LogReader::entries() const {
  std::vector<LogEntry> entries;
  const std::string all = text();
  for (std::size_t begin = 0, end; (end = all.find('\n', begin)) != std::string::npos; begin = end + 1) {
    entries.push_back(parse_log_line(all.substr(begin, end - begin)));
  }
  return entries;
}

std::vector<LogEntry> LogReader::matching(const LogQuery& query) const {
  auto found = entries();
  std::erase_if(found, [&](const LogEntry& entry) { return !matches(entry, query); });
  return found;
}

std::optional<LogEntry> LogReader::wait_for(const LogQuery& query, Millis time) const {
  if (!wait_for_count(query, 1, time)) return std::nullopt;
  return matching(query).front();
}

bool LogReader::wait_for_count(const LogQuery& query, std::size_t wanted, Millis time) const {
  return eventually([&] { return count(query) >= wanted; }, time);
}

}  // namespace flockfs::test
