#include "lock/foreign_locks.h"

#include <fcntl.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <cstdio>
#include <cstring>
#include <vector>

#include "base/unique_fd.h"

namespace flockfs {

namespace {

// About 300,000 locks; whoever makes more must not make us read for ever.
constexpr std::size_t kMostBytes = 16U << 20;

// The next word of the line, which is taken off it; empty at the end.
std::string_view next_word(std::string_view& line) {
  const std::size_t begin = std::min(line.find_first_not_of(" \t"), line.size());
  line.remove_prefix(begin);
  const std::size_t end = std::min(line.find_first_of(" \t"), line.size());
  const std::string_view word = line.substr(0, end);
  line.remove_prefix(end);
  return word;
}

template <typename Number>
std::optional<Number> number(std::string_view text, int base) {
  Number value{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value, base);
  if (error != std::errc{} || end != text.data() + text.size()) return std::nullopt;
  return value;
}

// "fe:00:10952826": major and minor in hex, inode in decimal.
std::optional<FileId> parse_file_id(std::string_view text) {
  const std::size_t first = text.find(':');
  const std::size_t second = first == std::string_view::npos ? first : text.find(':', first + 1);
  if (second == std::string_view::npos) return std::nullopt;
  const auto major_number = number<unsigned>(text.substr(0, first), 16);
  const auto minor_number = number<unsigned>(text.substr(first + 1, second - first - 1), 16);
  const auto inode = number<ino_t>(text.substr(second + 1), 10);
  if (!major_number || !minor_number || !inode) return std::nullopt;
  return FileId{makedev(*major_number, *minor_number), *inode};
}

std::optional<ForeignLockKind> parse_kind(std::string_view word) {
  if (word == "FLOCK") return ForeignLockKind::kFlock;
  if (word == "POSIX") return ForeignLockKind::kPosix;
  if (word == "OFDLCK") return ForeignLockKind::kOfd;
  return std::nullopt;
}

// Calls visit(line) for each whole line of the file. False if it cannot be read.
template <typename Visit>
bool for_each_line(const char* path, const Visit& visit) {
  const UniqueFd fd(open(path, O_RDONLY | O_CLOEXEC));
  if (!fd) return false;
  std::vector<char> buffer(std::size_t{64} << 10);
  std::size_t kept = 0;
  for (std::size_t total = 0; total < kMostBytes;) {
    const ssize_t got = read(fd.get(), buffer.data() + kept, buffer.size() - kept);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return got == 0;
    total += static_cast<std::size_t>(got);
    std::string_view text(buffer.data(), kept + static_cast<std::size_t>(got));
    for (std::size_t end = text.find('\n'); end != std::string_view::npos; end = text.find('\n')) {
      visit(text.substr(0, end));
      text.remove_prefix(end + 1);
    }
    kept = text.size() == buffer.size() ? 0 : text.size();  // no line of the kernel's is that long
    std::memmove(buffer.data(), text.data(), kept);
  }
  return true;
}

}  // namespace

// "1: FLOCK  ADVISORY  WRITE 5998 fe:00:10952826 0 EOF"; waiters have "-> " after the number, indented by their depth.
std::optional<ForeignLock> parse_lock_line(std::string_view line) {
  const std::string_view ordinal = next_word(line);
  if (ordinal.size() < 2 || ordinal.back() != ':') return std::nullopt;
  if (!number<std::uint64_t>(ordinal.substr(0, ordinal.size() - 1), 10)) return std::nullopt;
  ForeignLock lock;
  std::string_view word = next_word(line);
  if (word == "->") {
    lock.waits = true;
    word = next_word(line);
  }
  const auto kind = parse_kind(word);
  (void)next_word(line);  // ADVISORY
  const std::string_view mode = next_word(line);
  const auto pid = number<pid_t>(next_word(line), 10);
  const auto file = parse_file_id(next_word(line));
  if (!kind || !pid || !file || (mode != "READ" && mode != "WRITE")) return std::nullopt;
  lock.kind = *kind;
  lock.mode = mode == "READ" ? LockMode::kShared : LockMode::kExclusive;
  lock.pid = *pid;
  lock.file = *file;
  return lock;
}

bool ProcForeignLocks::for_each(const std::function<void(const ForeignLock&)>& visit) {
  const pid_t self = getpid();
  return for_each_line("/proc/locks", [&](std::string_view line) {
    const auto lock = parse_lock_line(line);
    if (lock && lock->pid != self) visit(*lock);
  });
}

std::optional<FileId> ProcForeignLocks::listed_as(int fd) {
  std::array<char, 40> path;
  std::snprintf(path.data(), path.size(), "/proc/self/fdinfo/%d", fd);
  std::optional<FileId> found;
  (void)for_each_line(path.data(), [&found](std::string_view line) {
    constexpr std::string_view kKey = "lock:";
    if (!line.starts_with(kKey)) return;
    const auto lock = parse_lock_line(line.substr(kKey.size()));
    if (lock && lock->kind == ForeignLockKind::kFlock && !lock->waits) found = lock->file;
  });
  return found;
}

}  // namespace flockfs
