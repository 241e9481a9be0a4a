#include "mirror/lock_files.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>

#include "base/clock.h"
#include "base/log.h"

namespace flockfs {
namespace {

// As git has it; the umask takes its share.
constexpr mode_t kMode = 0666;

bool no_tmpfile(int error) {
  return error == EOPNOTSUPP || error == EISDIR || error == ENOENT || error == EINVAL || error == ENOSYS;
}

// As long a thread waits for another one of ours that is in the middle of two or three system calls on the same name.
constexpr auto kChangeLimit = std::chrono::milliseconds(500);

// By the directory itself, not by where it is or in which inode object it is known.
std::string key_of(const Inode::Name& name) { return std::string(name.parent->identity()) + "/" + name.name; }

bool is_gone(int error) { return error == ENOENT || error == ESTALE || error == ENOTDIR; }

// In a fixed order, so that two who want several do not hold each a part for long.
bool comes_before(const Inode::Name& one, const Inode::Name& other) {
  const auto key = [](const Inode::Name& name) { return std::pair(name.parent->dev(), name.parent->ino()); };
  return std::pair(key(one), std::string_view(one.name)) < std::pair(key(other), std::string_view(other.name));
}

bool exists(int directory, const std::string& name) {
  struct stat st {};
  return ::fstatat(directory, name.c_str(), &st, AT_SYMLINK_NOFOLLOW) == 0;
}

// The threads that take locks are not all ours to start; each needs a umask of its own before it uses a client's.
bool has_own_umask() {
  thread_local const bool own = own_umask().ok();
  return own;
}

}  // namespace

// One attempt to make lock files for a caller.
class LockFiles::Maker {
 public:
  Maker(const InodeTable& inodes, LockFileRecord& record, const Caller& caller, CallerScope::Rights rights)
      : inodes_(inodes), record_(record), caller_(caller), rights_(rights) {}

  // Written down first, then made: without a name at first, so that it is known which object it will be.
  Status make(int directory, Made& made) const {
    if (exists(directory, made.name)) return Error{EEXIST, inodes_.path_in(*made.directory, made.name)};
    auto fd = open(directory, ".", O_RDWR | O_TMPFILE);
    if (!fd && no_tmpfile(fd.error().code)) return make_by_name(directory, made);
    if (!fd) return fd.error();
    if (auto noted = note(fd->get(), made); !noted) return noted;
    const CallerScope scope(caller_, rights_);
    if (scope.ok() &&
        ::linkat(AT_FDCWD, ProcFdPath(fd->get()).c_str(), directory, made.name.c_str(), AT_SYMLINK_FOLLOW) == 0) {
      return {};
    }
    const int error = scope.ok() ? errno : EPERM;
    record_.remove(made.record);
    return failure(error, made);
  }

 private:
  // Where files have a name from the start (NFS, FUSE), it is written down the moment it is there.
  Status make_by_name(int directory, Made& made) const {
    auto fd = open(directory, made.name.c_str(), O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW);
    if (!fd) return failure(fd.error().code, made);
    auto noted = note(fd->get(), made);
    if (!noted) ::unlinkat(directory, made.name.c_str(), 0);
    return noted;
  }

  [[nodiscard]] Result<UniqueFd> open(int directory, const char* name, int flags) const {
    const CallerScope scope(caller_, rights_);
    if (!scope.ok()) return Error{EPERM, {}};
    UniqueFd fd(::openat(directory, name, flags | O_CLOEXEC, kMode));
    if (!fd) return errno_error();
    return fd;
  }

  Status note(int fd, Made& made) const {
    struct stat st {};
    if (::fstat(fd, &st) != 0) return errno_error();
    auto look = look_at_lock_file(fd);
    if (!look) return look.error();
    made.dev = st.st_dev;
    made.identity = std::move(look->identity);
    if (!made.identity.certain()) return {};  // nothing that could be proved later
    const std::string root = inodes_.path(*inodes_.root());
    std::string directory = inodes_.path(*made.directory);
    directory.erase(0, std::min(directory.size(), root == "/" ? 1 : root.size() + 1));
    auto id = record_.add({made.identity, std::move(directory), made.name});
    if (!id) return Error{id.error().code, id.error().code == ENAMETOOLONG ? "" : "cannot write the record"};
    made.record = *id;
    return {};
  }

  [[nodiscard]] Error failure(int error, const Made& made) const {
    return {error, error == EEXIST ? inodes_.path_in(*made.directory, made.name) : std::string{}};
  }

  const InodeTable& inodes_;
  LockFileRecord& record_;
  const Caller& caller_;
  const CallerScope::Rights rights_;
};

// Only for want of memory, which ends the process.
// NOLINTNEXTLINE(bugprone-exception-escape)
LockFileHold& LockFileHold::operator=(LockFileHold&& other) noexcept {
  if (this == &other) return *this;
  reset();
  owner_ = std::exchange(other.owner_, nullptr);
  keys_ = std::move(other.keys_);
  return *this;
}

void LockFileHold::reset() {
  LockFiles* owner = std::exchange(owner_, nullptr);
  if (owner == nullptr) return;
  for (const std::string& key : keys_) owner->release(key);
  keys_.clear();
}

bool LockFiles::has_one(std::string_view name) { return !name.ends_with(kLockSuffix); }

std::string LockFiles::name_for(std::string_view name) { return std::string(name).append(kLockSuffix); }

Result<LockFileHold> LockFiles::take(std::vector<Inode::Name> names, const Caller& caller, CallerScope::Rights rights) {
  std::erase_if(names, [](const Inode::Name& name) { return !has_one(name.name); });
  if (names.empty()) return LockFileHold();
  if (!has_own_umask()) return Error{EPERM, {}};
  std::sort(names.begin(), names.end(), comes_before);
  const Maker maker(inodes_, record_, caller, rights);
  LockFileHold hold(this);
  for (const Inode::Name& name : names) {
    if (auto taken = take_one(name, maker, hold); !taken) return taken.error();  // what `hold` has ends here
  }
  return hold;
}

Status LockFiles::take_one(const Inode::Name& name, const Maker& maker, LockFileHold& hold) {
  auto directory = name.parent->path_fd();
  // In a directory that is gone nobody has or makes one.
  if (!directory && is_gone(directory.error().code)) return {};
  if (!directory) return directory.error();
  const std::string key = key_of(name);
  auto joined = join(key, name);
  if (!joined) return joined.error();
  if (*joined) {
    hold.keys_.push_back(key);
    return {};
  }
  Made made{name.parent, name_for(name.name), 0, {}, 0};
  Status done = maker.make(directory->get(), made);
  {
    MutexLock lock(mutex_);
    if (done) {
      entries_.at(key) = {Phase::kHeld, 1, std::move(made)};
    } else {
      entries_.erase(key);
    }
    changed_.notify_all();
  }
  if (done) {
    hold.keys_.push_back(key);
    return {};
  }
  struct stat st {};  // ext4 says EPERM in a directory that has just been removed
  if (done.error().code != EEXIST && ::fstat(directory->get(), &st) == 0 && st.st_nlink == 0) return {};
  return done;
}

// True: one more share in what this mirror has. False: the caller is to make it.
Result<bool> LockFiles::join(const std::string& key, const Inode::Name& name) {
  const TimePoint limit = now() + kChangeLimit;
  MutexLock lock(mutex_);
  for (;;) {
    auto [entry, fresh] = entries_.try_emplace(key);
    if (fresh) return false;
    if (entry->second.phase == Phase::kHeld) {
      ++entry->second.holds;
      return true;
    }
    if (now() >= limit) break;
    changed_.wait_until(mutex_, limit);
  }
  lock.unlock();
  return Error{EEXIST, inodes_.path_in(*name.parent, name_for(name.name))};
}

void LockFiles::release(const std::string& key) {
  Made made;
  {
    MutexLock lock(mutex_);
    Entry& entry = entries_.at(key);
    if (--entry.holds > 0) return;
    entry.phase = Phase::kChanging;
    made = std::move(entry.made);
  }
  if (remove(made)) record_.remove(made.record);  // else the next start tries again
  MutexLock lock(mutex_);
  entries_.erase(key);
  changed_.notify_all();
}

// By the directory that it was made in, wherever that is now. What has its name is removed only if it is the very file
// that was made: who puts another one in its place, as git does by rename(2), has it stay.
bool LockFiles::remove(const Made& made) {
  std::string_view reason;
  int error = 0;
  if (auto directory = made.directory->path_fd(); !directory) {
    error = directory.error().code;
  } else if (const UniqueFd fd(::openat(directory->get(), made.name.c_str(), O_PATH | O_NOFOLLOW | O_CLOEXEC)); !fd) {
    error = errno;
  } else {
    struct stat st {};
    const auto look = look_at_lock_file(fd.get());
    const bool certain = made.identity.certain();
    const bool ours = look && ::fstat(fd.get(), &st) == 0 && st.st_dev == made.dev && st.st_ino == made.identity.ino &&
                      (!certain || same_object(look->identity, made.identity));
    if (!ours) {
      reason = "replaced";
    } else if (::unlinkat(directory->get(), made.name.c_str(), 0) != 0) {
      error = errno;
    }
  }
  if (error == 0 && reason.empty()) return true;
  LogLine line("lockfile");
  line.quoted("path", inodes_.path_in(*made.directory, made.name));
  if (is_gone(error)) reason = "gone";
  const bool over = !reason.empty();
  if (!over) {
    line.quoted("reason", Error{error, "cannot remove it"}.message());
  } else {
    line.text("reason", reason);
  }
  log_write(LogLevel::kWarning, line);
  return over;
}

bool LockFiles::is_free(const Inode::Name& name) const {
  {
    MutexLock lock(mutex_);
    if (const auto entry = entries_.find(key_of(name)); entry != entries_.end()) {
      return entry->second.phase == Phase::kHeld;
    }
  }
  auto directory = name.parent->path_fd();
  return !directory || !exists(directory->get(), name_for(name.name));
}

bool LockFiles::are_free(const std::vector<Inode::Name>& names) const {
  return std::all_of(names.begin(), names.end(),
                     [this](const Inode::Name& name) { return !has_one(name.name) || is_free(name); });
}

}  // namespace flockfs
