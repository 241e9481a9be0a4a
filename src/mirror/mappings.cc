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

constexpr std::size_t kBufferBytes = std::size_t{64} * 1024;

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
  std::set<ino_t> found;
  if (process <= 0 || !add_recent(process, opened_at_ns, found)) found = all();
  if (blind_) return std::nullopt;
  return found;
}

// False if it is not known who was made since.
bool Mappings::add_recent(pid_t process, std::int64_t opened_at_ns, std::set<ino_t>& found) {
  if (!recent_.since(opened_at_ns, now_ns_)) return false;
  add_process(process, found);
  std::set<pid_t> seen{process};
  for (bool more = true; more;) {
    more = false;
    const auto made = recent_.since(opened_at_ns, now_ns_);
    if (!made) return false;
    for (const pid_t number : *made) {
      if (!seen.insert(number).second) continue;
      add_process(number, found);
      more = true;
    }
  }
  return true;
}

void Mappings::add_process(pid_t process, std::set<ino_t>& found) {
  char path[48];
  std::snprintf(path, sizeof path, "/proc/%d/maps", process);
  const UniqueFd fd(::open(path, O_RDONLY | O_CLOEXEC));
  if (!fd) {
    // Gone, or not ours to see; anything else is a lack of our own, and says nothing about the process.
    if (errno != ENOENT && errno != ESRCH && errno != EACCES && errno != EPERM) blind_ = true;
    return;
  }
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

std::set<ino_t> Mappings::all() {
  if (all_) return *all_;
  std::set<ino_t> found;
  std::set<pid_t> seen;
  for (bool more = true; more && !blind_;) {
    more = false;
    const bool listed = for_each_number("/proc", [&](pid_t process) {
      if (!seen.insert(process).second) return;
      add_process(process, found);
      more = true;
    });
    if (!listed) blind_ = true;
  }
  if (!blind_) all_ = found;
  return found;
}

}  // namespace flockfs
