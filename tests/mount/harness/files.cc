#include "harness/files.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/mount.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <memory>
#include <system_error>

#include "harness/connection.h"

namespace flockfs::test {
namespace {

[[noreturn]] void fail(const std::string& what) { throw std::system_error(errno, std::generic_category(), what); }

void write_all(int fd, std::string_view contents, const std::string& path) {
  while (!contents.empty()) {
    const ssize_t size = ::write(fd, contents.data(), contents.size());
    if (size < 0) fail("write " + path);
    contents.remove_prefix(static_cast<std::size_t>(size));
  }
}

// Detaches every mount below the path, the last first.
void detach_mounts_below(const std::string& path) {
  auto table = mount_table();
  std::reverse(table.begin(), table.end());
  for (const MountEntry& entry : table) {
    if (entry.mountpoint.starts_with(path + "/")) ::umount2(entry.mountpoint.c_str(), MNT_DETACH);
  }
}

}  // namespace

UniqueFd open_file(const std::string& path, int flags, mode_t mode) {
  UniqueFd fd(::open(path.c_str(), flags | O_CLOEXEC, mode));
  if (!fd) fail("open " + path);
  return fd;
}

int open_error(const std::string& path, int flags, mode_t mode) {
  const UniqueFd fd(::open(path.c_str(), flags | O_CLOEXEC, mode));
  return fd ? 0 : errno;
}

void write_file(const std::string& path, std::string_view contents, mode_t mode) {
  const UniqueFd fd = open_file(path, O_WRONLY | O_CREAT | O_TRUNC, mode);
  write_all(fd.get(), contents, path);
}

void append_file(const std::string& path, std::string_view contents) {
  const UniqueFd fd = open_file(path, O_WRONLY | O_APPEND);
  write_all(fd.get(), contents, path);
}

std::string read_all(int fd) {
  std::string text;
  char block[65536];
  for (off_t at = 0;;) {
    const ssize_t size = ::pread(fd, block, sizeof block, at);
    if (size < 0) fail("read");
    if (size == 0) return text;
    text.append(block, static_cast<std::size_t>(size));
    at += size;
  }
}

std::string read_file(const std::string& path) { return read_all(open_file(path, O_RDONLY).get()); }

struct stat stat_of(const std::string& path) {
  struct stat status {};
  if (::lstat(path.c_str(), &status) != 0) fail("lstat " + path);
  return status;
}

bool exists(const std::string& path) {
  struct stat status {};
  return ::lstat(path.c_str(), &status) == 0;
}

void make_dir(const std::string& path, mode_t mode) {
  if (::mkdir(path.c_str(), mode) != 0 || ::chmod(path.c_str(), mode) != 0) fail("mkdir " + path);
}

std::vector<std::string> list_dir(const std::string& path) {
  const std::unique_ptr<DIR, int (*)(DIR*)> dir(::opendir(path.c_str()), ::closedir);
  if (!dir) fail("opendir " + path);
  std::vector<std::string> names;
  while (const dirent* entry = ::readdir(dir.get())) {
    const std::string name = entry->d_name;
    if (name != "." && name != "..") names.push_back(name);
  }
  std::sort(names.begin(), names.end());
  return names;
}

std::string errno_name(int code) {
  const char* name = ::strerrorname_np(code);
  return name == nullptr ? std::to_string(code) : name;
}

TempTree::TempTree() {
  const char* base = std::getenv("TMPDIR");
  std::string name = std::string(base == nullptr || *base == '\0' ? "/var/tmp" : base) + "/flockfs-test-XXXXXX";
  if (::mkdtemp(name.data()) == nullptr) fail("mkdtemp " + name);
  path_ = std::filesystem::canonical(name);
  if (::chmod(path_.c_str(), 0755) != 0) fail("chmod " + path_);
}

TempTree::~TempTree() {
  detach_mounts_below(path_);
  // A mount that would not go must not be emptied through its mountpoint.
  for (const MountEntry& entry : mount_table()) {
    if (entry.mountpoint.starts_with(path_ + "/")) {
      std::fprintf(stderr, "%s is still mounted; %s is left as it is\n", entry.mountpoint.c_str(), path_.c_str());
      return;
    }
  }
  std::error_code error;
  std::filesystem::remove_all(path_, error);
  if (error) std::fprintf(stderr, "cannot remove %s: %s\n", path_.c_str(), error.message().c_str());
}

}  // namespace flockfs::test
