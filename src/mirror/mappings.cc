#include "mirror/mappings.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <cstdio>
#include <cstring>
#include <memory>
#include <optional>
#include <string>

#include "base/unique_fd.h"

namespace flockfs {
namespace {

constexpr std::size_t kBufferBytes = 64 * 1024;

// The text up to `end` as a number; the text moves behind `end`.
template <typename Number>
bool eat_number(std::string_view& text, int base, char end, Number& number) {
  const auto [stop, error] = std::from_chars(text.data(), text.data() + text.size(), number, base);
  const auto used = static_cast<std::size_t>(stop - text.data());
  if (error != std::errc{} || used >= text.size() || text[used] != end) return false;
  text.remove_prefix(used + 1);
  return true;
}

bool eat_word(std::string_view& text) {
  const std::size_t blank = text.find(' ');
  if (blank == std::string_view::npos) return false;
  text.remove_prefix(blank + 1);
  return true;
}

// Field 22 of /proc/PID/stat: when the process started, in clock ticks since boot.
std::optional<std::int64_t> started_ns(pid_t process) {
  char path[48];
  std::snprintf(path, sizeof path, "/proc/%d/stat", process);
  const UniqueFd fd(::open(path, O_RDONLY | O_CLOEXEC));
  char bytes[1024];
  const ssize_t got = fd ? ::read(fd.get(), bytes, sizeof bytes) : -1;
  if (got <= 0) return std::nullopt;
  std::string_view text(bytes, static_cast<std::size_t>(got));
  // The command (field 2) may hold anything, a closing parenthesis too: count from the last one.
  const std::size_t close = text.rfind(") ");
  if (close == std::string_view::npos) return std::nullopt;
  text.remove_prefix(close + 2);
  if (text.starts_with('Z') || text.starts_with('X')) return std::nullopt;  // its mappings are gone, its children moved
  for (int field = 3; field < 22; ++field) {
    if (!eat_word(text)) return std::nullopt;
  }
  std::int64_t ticks = 0;
  if (!eat_number(text, 10, ' ', ticks)) return std::nullopt;
  return ticks * (1'000'000'000 / ::sysconf(_SC_CLK_TCK));
}

using Directory = std::unique_ptr<DIR, int (*)(DIR*)>;

Directory open_directory(const char* path) { return {::opendir(path), &::closedir}; }

// The numbers among a directory's entries; false, with errno, if it cannot be opened.
template <typename Visit>
bool for_each_number(const char* path, Visit visit) {
  const Directory directory = open_directory(path);
  if (!directory) return false;
  while (const dirent* entry = ::readdir(directory.get())) {
    const std::string_view name = entry->d_name;
    pid_t number = 0;
    const auto [stop, error] = std::from_chars(name.data(), name.data() + name.size(), number);
    if (error == std::errc{} && stop == name.data() + name.size()) visit(number);
  }
  return true;
}

}  // namespace

// 7f2c0a400000-7f2c0a422000 r--p 00000000 fe:00 131  /path
MappedFile parse_maps_line(std::string_view line) {
  unsigned major_number = 0;
  unsigned minor_number = 0;
  ino_t ino = 0;
  for (int field = 0; field < 3; ++field) {
    if (!eat_word(line)) return {0, 0};
  }
  if (!eat_number(line, 16, ':', major_number) || !eat_number(line, 16, ' ', minor_number)) return {0, 0};
  const auto [stop, error] = std::from_chars(line.data(), line.data() + line.size(), ino);
  (void)stop;
  if (error != std::errc{}) return {0, 0};
  return {makedev(major_number, minor_number), ino};
}

void Mappings::begin(std::int64_t now_ns) {
  now_ns_ = now_ns;
  all_.reset();
  recent_.remember(now_ns);
}

std::optional<std::set<ino_t>> Mappings::of(pid_t process, std::int64_t opened_at_ns) {
  blind_ = false;
  std::set<ino_t> found = inherited_from(process, opened_at_ns);
  if (blind_) return std::nullopt;
  return found;
}

std::set<ino_t> Mappings::inherited_from(pid_t process, std::int64_t opened_at_ns) {
  std::set<ino_t> found;
  if (const auto made_since = recent_.since(opened_at_ns, now_ns_)) {
    if (process > 0) add_process(process, found);
    for (const pid_t number : *made_since) add_process(number, found);
    return found;
  }
  const auto started = process > 0 ? started_ns(process) : std::nullopt;
  if (!started || *started > opened_at_ns) return all();
  add_process(process, found);
  add_descendants(process, found);
  return found;
}

// Whether opening something in /proc failed for a reason of our own, not because the process is gone.
bool Mappings::lacks(const UniqueFd& fd) {
  if (fd || errno == ENOENT || errno == ESRCH || errno == EACCES || errno == EPERM) return false;
  blind_ = true;
  return true;
}

void Mappings::add_process(pid_t process, std::set<ino_t>& found) {
  char path[48];
  std::snprintf(path, sizeof path, "/proc/%d/maps", process);
  const UniqueFd fd(::open(path, O_RDONLY | O_CLOEXEC));
  if (lacks(fd) || !fd) return;
  buffer_.resize(kBufferBytes);
  std::size_t have = 0;
  for (;;) {
    const ssize_t got = ::read(fd.get(), buffer_.data() + have, buffer_.size() - have);
    if (got <= 0) return;
    have += static_cast<std::size_t>(got);
    std::size_t begin = 0;
    const std::string_view text(buffer_.data(), have);
    for (std::size_t end = text.find('\n'); end != std::string_view::npos; end = text.find('\n', begin)) {
      const auto [dev, ino] = parse_maps_line(text.substr(begin, end - begin));
      if (dev == mirror_ && ino != 0) found.insert(ino);
      begin = end + 1;
    }
    // A line is at most a path of PAGE_SIZE, escaped, and some: never the whole buffer.
    std::memmove(buffer_.data(), buffer_.data() + begin, have - begin);
    have -= begin;
    if (have == buffer_.size()) have = 0;
  }
}

// Children by the thread that has them (CONFIG_PROC_CHILDREN).
void Mappings::add_descendants(pid_t process, std::set<ino_t>& found) {
  std::vector<pid_t> todo{process};
  std::set<pid_t> seen{process};
  while (!todo.empty()) {
    const pid_t parent = todo.back();
    todo.pop_back();
    const std::string tasks = "/proc/" + std::to_string(parent) + "/task";
    const bool listed = for_each_number(tasks.c_str(), [&](pid_t thread) {
      const UniqueFd fd(::open((tasks + "/" + std::to_string(thread) + "/children").c_str(), O_RDONLY | O_CLOEXEC));
      lacks(fd);
      std::string text;
      char bytes[4096];
      ssize_t got = 0;
      while (fd && (got = ::read(fd.get(), bytes, sizeof bytes)) > 0) text.append(bytes, static_cast<std::size_t>(got));
      std::string_view rest = text;
      for (pid_t child = 0; eat_number(rest, 10, ' ', child);) {
        if (!seen.insert(child).second) continue;
        add_process(child, found);
        todo.push_back(child);
      }
    });
    if (!listed && errno != ENOENT) blind_ = true;
  }
}

std::set<ino_t> Mappings::all() {
  if (all_) return *all_;
  std::set<ino_t> found;
  if (!for_each_number("/proc", [&](pid_t process) { add_process(process, found); })) blind_ = true;
  if (!blind_) all_ = found;
  return found;
}

}  // namespace flockfs
