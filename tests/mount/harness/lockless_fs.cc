#include "harness/lockless_fs.h"

#define FUSE_USE_VERSION 317
#include <fuse.h>
#include <sys/mount.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <string_view>
#include <utility>

#include "harness/fuse_server.h"

namespace flockfs::test {
namespace {

constexpr std::string_view kContents = "contents";

int fs_getattr(const char* path, struct stat* st, fuse_file_info* /*info*/) {
  const bool root = std::strcmp(path, "/") == 0;
  if (!root && std::strcmp(path, "/f") != 0) return -ENOENT;
  st->st_mode = root ? S_IFDIR | 0755 : S_IFREG | 0644;
  st->st_nlink = root ? 2 : 1;
  st->st_size = root ? 0 : static_cast<off_t>(kContents.size());
  return 0;
}

int fs_readdir(const char* /*path*/, void* buffer, fuse_fill_dir_t fill, off_t /*offset*/, fuse_file_info* /*info*/,
               fuse_readdir_flags /*flags*/) {
  for (const char* name : {".", "..", "f"}) fill(buffer, name, nullptr, 0, FUSE_FILL_DIR_DEFAULTS);
  return 0;
}

int fs_read(const char* /*path*/, char* buffer, std::size_t size, off_t offset, fuse_file_info* /*info*/) {
  const std::string_view rest = kContents.substr(std::min(kContents.size(), static_cast<std::size_t>(offset)));
  return static_cast<int>(rest.copy(buffer, size));
}

int fs_truncate(const char* /*path*/, off_t /*size*/, fuse_file_info* /*info*/) { return 0; }

int fs_flock(const char* /*path*/, fuse_file_info* /*info*/, int /*operation*/) { return -EOPNOTSUPP; }

void serve(std::string directory) {
  fuse_operations operations{};
  operations.getattr = fs_getattr;
  operations.readdir = fs_readdir;
  operations.read = fs_read;
  operations.truncate = fs_truncate;
  operations.flock = fs_flock;
  serve_fuse(operations, std::move(directory), Threads::kOne);
}

}  // namespace

LocklessFs::LocklessFs(std::string directory)
    : directory_(std::move(directory)), server_([this](Peer&) { serve(directory_); }) {
  await_fuse(directory_, "the file system without locks");
}

LocklessFs::~LocklessFs() { ::umount2(directory_.c_str(), MNT_DETACH); }

}  // namespace flockfs::test
