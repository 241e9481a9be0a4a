#include "harness/one_lock_fs.h"

#define FUSE_USE_VERSION 317
#include <fcntl.h>
#include <fuse.h>
#include <sys/file.h>
#include <sys/mount.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <cstdio>
#include <map>
#include <memory>
#include <mutex>
#include <stdexcept>
#include <string_view>
#include <utility>

#include "harness/files.h"
#include "harness/fuse_server.h"

namespace flockfs::test {
namespace {

// Shows the calls so far.
constexpr std::string_view kCalls = "/calls";

struct File {
  std::string contents;
  bool counts = false;                     // its lock calls
  std::map<std::uint64_t, short> locks{};  // by owner: F_RDLCK or F_WRLCK
};

// Of the serving process.
std::mutex mutex;
std::condition_variable changed;
std::map<std::string, std::shared_ptr<File>> files;
OneLockFs::Calls calls;

File& open_file_of(const fuse_file_info* info) { return **reinterpret_cast<std::shared_ptr<File>*>(info->fh); }

std::string calls_text() { return std::to_string(calls.flocks) + " " + std::to_string(calls.records); }

int fs_getattr(const char* path, struct stat* st, fuse_file_info* info) {
  const std::lock_guard<std::mutex> guard(mutex);
  const bool root = info == nullptr && std::string_view(path) == "/";
  st->st_mode = root ? S_IFDIR | 0755 : S_IFREG | 0644;
  st->st_nlink = 1;
  if (info == nullptr && (root || path == kCalls)) return 0;
  if (info == nullptr && !files.contains(path)) return -ENOENT;
  const File& file = info != nullptr ? open_file_of(info) : *files.at(path);
  st->st_size = static_cast<off_t>(file.contents.size());
  return 0;
}

int fs_readdir(const char* /*path*/, void* buffer, fuse_fill_dir_t fill, off_t /*offset*/, fuse_file_info* /*info*/,
               fuse_readdir_flags /*flags*/) {
  const std::lock_guard<std::mutex> guard(mutex);
  for (const char* name : {".", ".."}) fill(buffer, name, nullptr, 0, FUSE_FILL_DIR_DEFAULTS);
  for (const auto& [path, file] : files) fill(buffer, path.c_str() + 1, nullptr, 0, FUSE_FILL_DIR_DEFAULTS);
  return 0;
}

void keep(fuse_file_info* info, std::shared_ptr<File> file) {
  info->fh = reinterpret_cast<std::uintptr_t>(new std::shared_ptr<File>(std::move(file)));
}

int fs_open(const char* path, fuse_file_info* info) {
  const std::lock_guard<std::mutex> guard(mutex);
  info->direct_io = 1;
  if (path == kCalls) {
    keep(info, std::make_shared<File>(File{calls_text()}));
    return 0;
  }
  const auto found = files.find(path);
  if (found == files.end()) return -ENOENT;
  if ((info->flags & O_TRUNC) != 0) found->second->contents.clear();
  keep(info, found->second);
  return 0;
}

int fs_create(const char* path, mode_t /*mode*/, fuse_file_info* info) {
  const std::lock_guard<std::mutex> guard(mutex);
  info->direct_io = 1;
  keep(info, files[path] = std::make_shared<File>());
  return 0;
}

int fs_unlink(const char* path) {
  const std::lock_guard<std::mutex> guard(mutex);
  return files.erase(path) == 1 ? 0 : -ENOENT;
}

int fs_release(const char* /*path*/, fuse_file_info* info) {
  const std::lock_guard<std::mutex> guard(mutex);
  if (info->flock_release != 0) open_file_of(info).locks.erase(info->lock_owner);
  delete reinterpret_cast<std::shared_ptr<File>*>(info->fh);
  changed.notify_all();
  return 0;
}

// close(2) ends the record locks of a process.
int fs_flush(const char* /*path*/, fuse_file_info* info) {
  const std::lock_guard<std::mutex> guard(mutex);
  open_file_of(info).locks.erase(info->lock_owner);
  changed.notify_all();
  return 0;
}

int fs_read(const char* /*path*/, char* buffer, std::size_t size, off_t offset, fuse_file_info* info) {
  const std::lock_guard<std::mutex> guard(mutex);
  const std::string_view all = open_file_of(info).contents;
  return static_cast<int>(all.substr(std::min(all.size(), static_cast<std::size_t>(offset))).copy(buffer, size));
}

int fs_write(const char* /*path*/, const char* data, std::size_t size, off_t offset, fuse_file_info* info) {
  const std::lock_guard<std::mutex> guard(mutex);
  std::string& contents = open_file_of(info).contents;
  const auto start = static_cast<std::size_t>(offset);
  contents.resize(std::max(contents.size(), start + size));
  contents.replace(start, size, data, size);
  return static_cast<int>(size);
}

int fs_truncate(const char* path, off_t size, fuse_file_info* info) {
  const std::lock_guard<std::mutex> guard(mutex);
  File& file = info != nullptr ? open_file_of(info) : *files.at(path);
  file.contents.resize(static_cast<std::size_t>(size));
  return 0;
}

bool in_the_way(const File& file, std::uint64_t owner, short type) {
  return std::ranges::any_of(
      file.locks, [&](const auto& lock) { return lock.first != owner && (type == F_WRLCK || lock.second == F_WRLCK); });
}

// Whole files only, of whatever range.
int set_lock(const fuse_file_info* info, short type, bool waits) {
  std::unique_lock<std::mutex> guard(mutex);
  File& file = open_file_of(info);
  while (type != F_UNLCK && in_the_way(file, info->lock_owner, type)) {
    if (!waits) return -EAGAIN;
    if (fuse_interrupted() != 0) return -EINTR;
    changed.wait_for(guard, std::chrono::milliseconds(5));
  }
  if (type == F_UNLCK) {
    file.locks.erase(info->lock_owner);
  } else {
    file.locks[info->lock_owner] = type;
  }
  changed.notify_all();
  return 0;
}

int fs_flock(const char* /*path*/, fuse_file_info* info, int operation) {
  const int how = operation & ~LOCK_NB;
  {
    const std::lock_guard<std::mutex> guard(mutex);
    if (open_file_of(info).counts && how != LOCK_UN) ++calls.flocks;
  }
  return set_lock(info, how == LOCK_UN ? F_UNLCK : how == LOCK_SH ? F_RDLCK : F_WRLCK, (operation & LOCK_NB) == 0);
}

int fs_lock(const char* /*path*/, fuse_file_info* info, int command, struct flock* lock) {
  {
    const std::lock_guard<std::mutex> guard(mutex);
    // libfuse itself unlocks at each close.
    if (open_file_of(info).counts && command != F_GETLK && lock->l_type != F_UNLCK) ++calls.records;
    if (command == F_GETLK) {
      if (!in_the_way(open_file_of(info), info->lock_owner, lock->l_type)) lock->l_type = F_UNLCK;
      return 0;
    }
  }
  return set_lock(info, lock->l_type, command == F_SETLKW);
}

void* fs_init(fuse_conn_info* /*connection*/, fuse_config* config) {
  config->hard_remove = 1;
  config->nullpath_ok = 1;
  config->attr_timeout = 0;
  return nullptr;
}

void serve(std::string directory) {
  files["/f"] = std::make_shared<File>(File{"contents", true});
  fuse_operations operations{};
  operations.init = fs_init;
  operations.getattr = fs_getattr;
  operations.readdir = fs_readdir;
  operations.open = fs_open;
  operations.create = fs_create;
  operations.unlink = fs_unlink;
  operations.release = fs_release;
  operations.flush = fs_flush;
  operations.read = fs_read;
  operations.write = fs_write;
  operations.truncate = fs_truncate;
  operations.flock = fs_flock;
  operations.lock = fs_lock;
  serve_fuse(operations, std::move(directory));
}

}  // namespace

OneLockFs::OneLockFs(std::string directory)
    : directory_(std::move(directory)), server_([this](Peer&) { serve(directory_); }) {
  await_fuse(directory_, "the file system with one kind of lock");
}

OneLockFs::~OneLockFs() { ::umount2(directory_.c_str(), MNT_DETACH); }

OneLockFs::Calls OneLockFs::calls() const {
  Calls so_far;
  const UniqueFd fd = open_file(directory_ + std::string(kCalls), O_RDONLY);
  char text[64] = {};
  if (::pread(fd.get(), text, sizeof text - 1, 0) <= 0 ||
      std::sscanf(text, "%d %d", &so_far.flocks, &so_far.records) != 2) {
    throw std::runtime_error("no calls to be read");
  }
  return so_far;
}

}  // namespace flockfs::test
