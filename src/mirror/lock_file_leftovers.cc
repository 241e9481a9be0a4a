#include "mirror/lock_file_leftovers.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "base/log.h"
#include "lock/file_locker.h"
#include "mirror/lock_file_record.h"

namespace flockfs {
namespace {

// More records than that are not ours, and none is that long.
constexpr std::size_t kMostRecords = 4096;
constexpr std::size_t kMostRecordBytes = std::size_t{64} * 1024 * 1024;

enum class Left { kNothing, kSomething };

// A directory below SOURCE, without a symlink and without a way out. `path` is what some file says.
UniqueFd open_below(int root, const std::string& path) {
  open_how how{};
  how.flags = O_PATH | O_DIRECTORY | O_CLOEXEC;
  how.resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS;
  return UniqueFd(static_cast<int>(::syscall(SYS_openat2, root, path.empty() ? "." : path.c_str(), &how, sizeof how)));
}

bool is_ours(int fd, const LockFileIdentity& made) {
  const auto look = look_at_lock_file(fd);
  return look && look->regular && look->size == 0 && look->identity.owner == made.owner &&
         same_object(look->identity, made);
}

Left remove_leftover(const Source& source, const RecordedLockFile& file) {
  const UniqueFd directory = open_below(source.root_fd(), file.directory);
  if (!directory) return Left::kNothing;  // moved or removed: nobody can say where the file is
  const UniqueFd fd(::openat(directory.get(), file.name.c_str(), O_PATH | O_NOFOLLOW | O_CLOEXEC));
  if (!fd || !is_ours(fd.get(), file.identity)) return Left::kNothing;
  const std::string path = source.path() + (source.path() == "/" ? "" : "/") + file.directory +
                           (file.directory.empty() ? "" : "/") + file.name;
  if (::unlinkat(directory.get(), file.name.c_str(), 0) != 0) {
    const Error error = errno_error("cannot remove the lock file of a mirror that was killed");
    log_write(LogLevel::kWarning, LogLine("lockfile").quoted("path", path).quoted("reason", error.message()));
    return error.code == ENOENT ? Left::kNothing : Left::kSomething;
  }
  log_write(LogLevel::kWarning, LogLine("lockfile").quoted("path", path).text("reason", "leftover"));
  return Left::kNothing;
}

std::string read_record(int fd) {
  std::string text;
  std::vector<char> bytes(std::size_t{64} * 1024);
  while (text.size() < kMostRecordBytes) {
    const ssize_t got = ::pread(fd, bytes.data(), bytes.size(), static_cast<off_t>(text.size()));
    if (got <= 0) break;
    text.append(bytes.data(), static_cast<std::size_t>(got));
  }
  return text;
}

Left remove_recorded(const Source& source, std::string_view text) {
  Left left = Left::kNothing;
  while (!text.empty()) {
    const std::size_t end = std::min(text.find('\n'), text.size());
    if (const auto file = parse_record_line(text.substr(0, end))) {
      if (remove_leftover(source, *file) == Left::kSomething) left = Left::kSomething;
    }
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return left;
}

// The lock tells that its daemon is dead, and keeps another one that starts now from doing the same.
void look_at_record(const Source& source, int directory, const char* name) {
  const UniqueFd fd(::openat(directory, name, O_RDWR | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC));
  struct stat st {};
  if (!fd || ::fstat(fd.get(), &st) != 0 || !S_ISREG(st.st_mode) || st.st_uid != ::geteuid()) return;
  if (FlockLocker().try_lock(fd.get(), LockMode::kExclusive) != 0) return;
  const std::string text = read_record(fd.get());
  if (text.empty()) {  // killed before it wrote the head, or about to lock it: then it takes another name
    ::unlinkat(directory, name, 0);
    return;
  }
  const auto recorded_source = parse_record_head(text);
  if (recorded_source != source.path()) return;
  if (remove_recorded(source, text) == Left::kNothing) ::unlinkat(directory, name, 0);
}

std::vector<std::string> records_in(int directory) {
  std::vector<std::string> names;
  const int copy = ::openat(directory, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  const std::unique_ptr<DIR, int (*)(DIR*)> stream(copy < 0 ? nullptr : ::fdopendir(copy), ::closedir);
  if (!stream) {
    if (copy >= 0) ::close(copy);
    return names;
  }
  while (const dirent* entry = ::readdir(stream.get())) {
    const std::string_view name = entry->d_name;
    if (!name.starts_with(kRecordPrefix)) continue;
    if (names.size() == kMostRecords) break;
    names.emplace_back(name);
  }
  return names;
}

}  // namespace

void remove_leftover_lock_files(const Source& source) {
  const auto directory = open_record_directory(Missing::kLeave);
  if (!directory) return;
  for (const std::string& name : records_in(directory->get())) {
    look_at_record(source, directory->get(), name.c_str());
  }
}

}  // namespace flockfs
