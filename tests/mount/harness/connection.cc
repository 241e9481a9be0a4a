#include "harness/connection.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <fstream>
#include <sstream>

#include "base/unique_fd.h"

namespace flockfs::test {
namespace {

std::vector<unsigned>& connections() {
  static std::vector<unsigned> numbers;
  return numbers;
}

std::string control_file(unsigned number, const char* name) {
  return "/sys/fs/fuse/connections/" + std::to_string(number) + "/" + name;
}

// mountinfo writes blank, tab, newline and backslash as \ooo.
std::string unescape(const std::string& text) {
  std::string plain;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '\\' && i + 3 < text.size()) {
      plain += static_cast<char>(std::stoi(text.substr(i + 1, 3), nullptr, 8));
      i += 3;
    } else {
      plain += text[i];
    }
  }
  return plain;
}

MountEntry parse_entry(const std::string& line) {
  MountEntry entry;
  std::istringstream words(line);
  std::string id, parent, device, root, word;
  words >> id >> parent >> device >> root >> entry.mountpoint >> entry.mount_options;
  while (words >> word && word != "-") {
  }
  words >> entry.type >> entry.source >> entry.super_options;
  entry.mountpoint = unescape(entry.mountpoint);
  entry.source = unescape(entry.source);
  unsigned major = 0;
  if (std::sscanf(device.c_str(), "%u:%u", &major, &entry.minor) != 2) entry.minor = 0;
  return entry;
}

}  // namespace

std::vector<MountEntry> mount_table() {
  std::vector<MountEntry> table;
  std::ifstream file("/proc/self/mountinfo");
  for (std::string line; std::getline(file, line);) table.push_back(parse_entry(line));
  return table;
}

std::optional<MountEntry> find_mount(const std::string& mountpoint) {
  const auto table = mount_table();
  const auto found = std::find_if(table.rbegin(), table.rend(),
                                  [&](const MountEntry& entry) { return entry.mountpoint == mountpoint; });
  if (found == table.rend()) return std::nullopt;
  return *found;
}

void remember_connection(unsigned number) { connections().push_back(number); }

void forget_connection(unsigned number) { std::erase(connections(), number); }

void abort_connections() {
  for (const unsigned number : connections()) abort_connection(number);
}

bool abort_connection(unsigned number) {
  const UniqueFd file(::open(control_file(number, "abort").c_str(), O_WRONLY | O_CLOEXEC));
  return file.valid() && ::write(file.get(), "1", 1) == 1;
}

std::optional<int> requests_waiting(unsigned number) {
  std::ifstream file(control_file(number, "waiting"));
  int count = 0;
  if (!(file >> count)) return std::nullopt;
  return count;
}

}  // namespace flockfs::test
