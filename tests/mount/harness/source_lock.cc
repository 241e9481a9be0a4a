#include "harness/source_lock.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <fstream>
#include <ostream>
#include <sstream>
#include <system_error>

#include "harness/deadline.h"

namespace flockfs::test {
namespace {

UniqueFd open_source(const std::string& path) {
  UniqueFd fd(::open(path.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC));
  if (!fd) throw std::system_error(errno, std::generic_category(), "open " + path);
  return fd;
}

std::string lock_key(const std::string& path) {
  struct stat status {};
  if (::stat(path.c_str(), &status) != 0) throw std::system_error(errno, std::generic_category(), "stat " + path);
  char key[64];
  std::snprintf(key, sizeof key, "%02x:%02x:%lu", major(status.st_dev), minor(status.st_dev), status.st_ino);
  return key;
}

int count_flocks(const std::string& path, bool waiting) {
  const auto locks = kernel_locks(path);
  return static_cast<int>(std::count_if(locks.begin(), locks.end(), [&](const KernelLock& lock) {
    return lock.type == "FLOCK" && lock.waits == waiting;
  }));
}

}  // namespace

std::ostream& operator<<(std::ostream& out, LockSeen lock) {
  switch (lock) {
    case LockSeen::kFree:
      return out << "free";
    case LockSeen::kShared:
      return out << "shared";
    case LockSeen::kExclusive:
      return out << "exclusive";
  }
  return out;
}

LockSeen source_lock(const std::string& source_path) {
  const UniqueFd fd = open_source(source_path);
  if (::flock(fd.get(), LOCK_EX | LOCK_NB) == 0) return LockSeen::kFree;
  if (::flock(fd.get(), LOCK_SH | LOCK_NB) == 0) return LockSeen::kShared;
  return LockSeen::kExclusive;
}

bool try_flock_source(const std::string& source_path, int operation) {
  const UniqueFd fd = open_source(source_path);
  return ::flock(fd.get(), operation | LOCK_NB) == 0;
}

::testing::AssertionResult becomes(const std::string& source_path, LockSeen lock) {
  LockSeen last{};
  if (eventually([&] { return (last = source_lock(source_path)) == lock; })) return ::testing::AssertionSuccess();
  return ::testing::AssertionFailure() << source_path << " stays " << last << " instead of becoming " << lock;
}

::testing::AssertionResult becomes_free(const std::string& source_path) {
  return becomes(source_path, LockSeen::kFree);
}

ForeignLock::ForeignLock(const std::string& source_path, int operation) : fd_(open_source(source_path)) {
  if (!eventually([&] { return ::flock(fd_.get(), operation | LOCK_NB) == 0; })) {
    throw std::runtime_error("the test cannot lock " + source_path);
  }
}

void ForeignLock::release() {
  if (!fd_) return;
  ::flock(fd_.get(), LOCK_UN);
  fd_.reset();
}

std::vector<KernelLock> kernel_locks(const std::string& source_path) {
  const std::string key = lock_key(source_path);
  std::vector<KernelLock> locks;
  std::ifstream file("/proc/locks");
  for (std::string line; std::getline(file, line);) {
    std::istringstream words(line);
    KernelLock lock;
    std::string number, kind, inode;
    words >> number >> lock.type;
    if (lock.type == "->") {
      lock.waits = true;
      words >> lock.type;
    }
    words >> kind >> lock.mode >> lock.pid >> inode;
    if (inode == key) locks.push_back(lock);
  }
  return locks;
}

::testing::AssertionResult has_flocks(const std::string& source_path, int held, int blocked) {
  const auto counted = [&](bool waiting) { return count_flocks(source_path, waiting); };
  if (eventually([&] { return counted(false) == held && counted(true) == blocked; })) {
    return ::testing::AssertionSuccess();
  }
  return ::testing::AssertionFailure() << source_path << ": " << counted(false) << " locks held (not " << held << "), "
                                       << counted(true) << " calls blocked (not " << blocked << ")";
}

}  // namespace flockfs::test
