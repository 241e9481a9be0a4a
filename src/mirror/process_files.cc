#include "mirror/process_files.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <charconv>
#include <cstdint>
#include <cstdio>
#include <memory>
#include <set>
#include <string>
#include <string_view>

#include "base/unique_fd.h"

namespace flockfs {
namespace {

// All of a file of /proc; empty if it cannot be read.
std::string read_all_of(int directory, const char* path) {
  const UniqueFd fd(::openat(directory, path, O_RDONLY | O_CLOEXEC));
  std::string text;
  std::array<char, 4096> bytes{};
  for (;;) {
    const ssize_t got = fd ? ::read(fd.get(), bytes.data(), bytes.size()) : 0;
    if (got <= 0) return text;
    text.append(bytes.data(), static_cast<std::size_t>(got));
  }
}

template <typename Number>
bool parse_number(std::string_view text, Number& number) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  return error == std::errc{} && end != text.data();
}

// The number behind "key:\t" at the start of a line.
bool field(std::string_view text, std::string_view key, std::uint64_t& value) {
  for (std::size_t at = text.find(key); at != std::string_view::npos; at = text.find(key, at + 1)) {
    if (at == 0 || text[at - 1] == '\n') return parse_number(text.substr(at + key.size()), value);
  }
  return false;
}

// The mounts that are the mirror, as the process sees them; "36 35 0:52 / /mnt …".
std::set<std::uint64_t> mounts_of_mirror(int process, dev_t mirror) {
  const std::string device = " " + std::to_string(major(mirror)) + ":" + std::to_string(minor(mirror)) + " ";
  const std::string text = read_all_of(process, "mountinfo");
  std::set<std::uint64_t> mounts;
  for (std::string_view rest = text; !rest.empty();) {
    const std::string_view line = rest.substr(0, rest.find('\n'));
    rest.remove_prefix(std::min(rest.size(), line.size() + 1));
    std::uint64_t number = 0;
    const std::size_t second = line.find(' ');
    const std::size_t third = second == std::string_view::npos ? second : line.find(' ', second + 1);
    if (third == std::string_view::npos || !line.substr(third).starts_with(device)) continue;
    if (parse_number(line, number)) mounts.insert(number);
  }
  return mounts;
}

using Directory = std::unique_ptr<DIR, int (*)(DIR*)>;

}  // namespace

HasOpen has_open(pid_t process, dev_t mirror, ino_t shown_ino) {
  char path[32];
  std::snprintf(path, sizeof path, "/proc/%d", process);
  if (process <= 0) return HasOpen::kUnknown;
  const UniqueFd base(::open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!base) return errno == ENOENT ? HasOpen::kNo : HasOpen::kUnknown;
  const int listing = ::openat(base.get(), "fdinfo", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (listing < 0) return errno == ENOENT || errno == ESRCH ? HasOpen::kNo : HasOpen::kUnknown;
  const Directory directory(::fdopendir(listing), &::closedir);
  if (!directory) {
    ::close(listing);
    return HasOpen::kUnknown;
  }
  std::set<std::uint64_t> mounts;
  while (const dirent* entry = ::readdir(directory.get())) {
    if (entry->d_name[0] == '.') continue;
    const std::string text = read_all_of(listing, entry->d_name);
    std::uint64_t ino = 0;
    std::uint64_t mount = 0;
    if (!field(text, "ino:\t", ino) || ino != shown_ino || !field(text, "mnt_id:\t", mount)) continue;
    if (mounts.empty()) mounts = mounts_of_mirror(base.get(), mirror);
    // A mount that the process does not see (detached, another namespace's) may be the mirror as well.
    if (mounts.empty()) return HasOpen::kUnknown;
    if (mounts.contains(mount)) return HasOpen::kYes;
  }
  return HasOpen::kNo;
}

}  // namespace flockfs
