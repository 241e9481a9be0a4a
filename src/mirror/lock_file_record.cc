#include "mirror/lock_file_record.h"

#include <fcntl.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <utility>

#include "lock/file_locker.h"
#include "tree/inode.h"

namespace flockfs {
namespace {

// A record that is so long, and four times what is still there, is written anew.
constexpr std::size_t kShortestWrittenAnew = std::size_t{64} * 1024;
constexpr std::size_t kMostGrowth = 4;
// Clients decide how much is in it, and what it lies in is everybody's: some hundred thousand lock files. With what is
// still to be written anew it stays below four times that.
constexpr std::size_t kMostLiveBytes = std::size_t{16} * 1024 * 1024;
constexpr std::size_t kMostWritten = 3 * kMostLiveBytes;
constexpr std::size_t kMostUnmerged = 4;
constexpr int kMostNames = 100;

Status write_whole(int fd, std::string_view text) {
  const ssize_t written = ::write(fd, text.data(), text.size());
  if (written < 0) return errno_error();
  // In pieces it would mix with the lines of other threads.
  if (static_cast<std::size_t>(written) != text.size()) return Error{ENOSPC, {}};
  return {};
}

std::optional<std::string> random_name() {
  std::array<unsigned char, 8> random{};
  if (::getrandom(random.data(), random.size(), 0) != static_cast<ssize_t>(random.size())) return std::nullopt;
  std::string name(kRecordPrefix);
  for (const unsigned char byte : random) {
    name += "0123456789abcdef"[byte >> 4];
    name += "0123456789abcdef"[byte & 15];
  }
  return name;
}

}  // namespace

Result<UniqueFd> open_record_directory(Missing missing) {
  return open_runtime_directory(missing, "the record of lock files");
}

Result<std::unique_ptr<LockFileRecord>> LockFileRecord::create(const std::string& source) {
  auto directory = open_record_directory(Missing::kMake);
  if (!directory) return directory.error();
  std::unique_ptr<LockFileRecord> record(new LockFileRecord(*std::move(directory), source));
  auto file = record->new_file();
  if (!file) return Error{file.error().code, "cannot write the record of lock files"};
  MutexLock lock(record->mutex_);
  record->file_ = *std::move(file);
  lock.unlock();
  return record;
}

// Whoever looks for records of the dead may meet it before it is locked, and remove it: then another one.
Result<LockFileRecord::FilePtr> LockFileRecord::new_file() const {
  for (int tries = 0; tries < kMostNames; ++tries) {
    auto name = random_name();
    if (!name) return errno_error();
    UniqueFd fd(
        ::openat(directory_.get(), name->c_str(), O_RDWR | O_CREAT | O_EXCL | O_APPEND | O_NOFOLLOW | O_CLOEXEC, 0600));
    if (!fd && errno == EEXIST) continue;
    if (!fd) return errno_error();
    struct stat st {};
    struct stat there {};
    if (FlockLocker().try_lock(fd.get(), LockMode::kExclusive) != 0) continue;
    if (::fstat(fd.get(), &st) != 0 || ::fstatat(directory_.get(), name->c_str(), &there, AT_SYMLINK_NOFOLLOW) != 0 ||
        !same_file(st, there)) {
      continue;
    }
    if (auto written = write_whole(fd.get(), record_head(source_)); !written) {
      ::unlinkat(directory_.get(), name->c_str(), 0);
      return written.error();
    }
    return std::make_shared<const File>(File{*std::move(name), std::move(fd)});
  }
  return Error{EEXIST, {}};
}

LockFileRecord::~LockFileRecord() {
  std::vector<FilePtr> files;
  {
    MutexLock lock(mutex_);
    if (!lines_.empty()) return;
    files.swap(unmerged_);
    if (file_) files.push_back(std::move(file_));
  }
  for (const FilePtr& file : files) ::unlinkat(directory_.get(), file->name.c_str(), 0);
}

Result<LockFileRecord::Id> LockFileRecord::add(const RecordedLockFile& file) {
  auto line = record_line(file);
  if (!line) return Error{ENAMETOOLONG, {}};
  FilePtr to;
  Id id = 0;
  bool grown = false;
  {
    MutexLock lock(mutex_);
    if (live_bytes_ + line->size() > kMostLiveBytes || written_ + line->size() > kMostWritten) {
      return Error{ENOSPC, {}};
    }
    id = ++last_;
    live_bytes_ += line->size();
    written_ += line->size();
    lines_.emplace(id, *line);
    to = file_;
    grown =
        written_ > std::max(kShortestWrittenAnew, std::min(kMostGrowth * live_bytes_, live_bytes_ + kMostLiveBytes));
  }
  if (auto written = write_whole(to->fd.get(), *line); !written) {
    remove(id);
    return written.error();
  }
  if (grown && !rewriting_.exchange(true)) {
    write_anew();
    rewriting_ = false;
  }
  return id;
}

void LockFileRecord::remove(Id id) {
  MutexLock lock(mutex_);
  const auto line = lines_.find(id);
  if (line == lines_.end()) return;
  live_bytes_ -= line->second.size();
  lines_.erase(line);
}

// From the switch on, whoever writes a line writes it to the new file; what was there before is copied. The old one
// goes when all is in the new one; if that fails it stays, and stays locked.
void LockFileRecord::write_anew() {
  {
    MutexLock lock(mutex_);
    if (unmerged_.size() >= kMostUnmerged) return;
  }
  auto fresh = new_file();
  if (!fresh) return;
  FilePtr old;
  std::string lines;
  {
    MutexLock lock(mutex_);
    old = std::exchange(file_, *fresh);
    for (const auto& [id, line] : lines_) lines += line;
    written_ = lines.size();
  }
  if (lines.empty() || write_whole((*fresh)->fd.get(), lines)) {
    ::unlinkat(directory_.get(), old->name.c_str(), 0);
    return;
  }
  MutexLock lock(mutex_);
  unmerged_.push_back(std::move(old));
}

}  // namespace flockfs
