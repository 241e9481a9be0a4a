#include "harness/failing_fs.h"

#define FUSE_USE_VERSION 317
#include <fuse.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <new>
#include <stdexcept>
#include <string_view>
#include <utility>

#include "harness/fuse_server.h"

namespace flockfs::test {

// In memory of both processes.
struct FailingFs::Shared {
  std::array<std::atomic<int>, kCalls> errors{};
};

namespace {

using Errors = std::array<std::atomic<int>, FailingFs::kCalls>;

Errors* errors;  // of the serving process

int result_of(std::string_view path, FailingFs::Call call) { return path == "/f" ? -errors->at(call) : 0; }

int fs_getattr(const char* path, struct stat* st, fuse_file_info* /*info*/) {
  const bool root = std::strcmp(path, "/") == 0;
  if (!root && std::strcmp(path, "/f") != 0 && std::strcmp(path, "/g") != 0) return -ENOENT;
  st->st_mode = root ? S_IFDIR | 0755 : S_IFREG | 0644;
  st->st_nlink = root ? 2 : 1;
  st->st_size = root ? 0 : kFailingSize;
  return result_of(path, FailingFs::kLook);
}

int fs_readdir(const char* /*path*/, void* buffer, fuse_fill_dir_t fill, off_t /*offset*/, fuse_file_info* /*info*/,
               fuse_readdir_flags /*flags*/) {
  for (const char* name : {".", "..", "f", "g"}) fill(buffer, name, nullptr, 0, FUSE_FILL_DIR_DEFAULTS);
  return 0;
}

int fs_open(const char* path, fuse_file_info* info) {
  info->direct_io = 1;  // each read and write is to be asked for
  return result_of(path, FailingFs::kOpen);
}

int fs_read(const char* path, char* buffer, std::size_t size, off_t offset, fuse_file_info* /*info*/) {
  if (const int failed = result_of(path, FailingFs::kRead); failed != 0) return failed;
  const off_t rest = std::max<off_t>(0, kFailingSize - offset);
  const std::size_t some = std::min(size, static_cast<std::size_t>(rest));
  std::fill_n(buffer, some, 'x');
  return static_cast<int>(some);
}

int fs_write(const char* path, const char* /*data*/, std::size_t size, off_t /*offset*/, fuse_file_info* /*info*/) {
  const int failed = result_of(path, FailingFs::kWrite);
  return failed != 0 ? failed : static_cast<int>(size);
}

int fs_fsync(const char* path, int /*data_only*/, fuse_file_info* /*info*/) {
  return result_of(path, FailingFs::kSync);
}

int fs_truncate(const char* path, off_t /*size*/, fuse_file_info* /*info*/) {
  return result_of(path, FailingFs::kWrite);
}

int fs_chmod(const char* path, mode_t /*mode*/, fuse_file_info* /*info*/) {
  return result_of(path, FailingFs::kChange);
}

int fs_utimens(const char* path, const timespec* /*times*/, fuse_file_info* /*info*/) {
  return result_of(path, FailingFs::kChange);
}

int fs_unlink(const char* path) { return result_of(path, FailingFs::kChange); }

int fs_rename(const char* from, const char* /*to*/, unsigned /*flags*/) { return result_of(from, FailingFs::kChange); }

int fs_setxattr(const char* path, const char* /*name*/, const char* /*value*/, std::size_t /*size*/, int /*flags*/) {
  return result_of(path, FailingFs::kChange);
}

void* fs_init(fuse_conn_info* /*connection*/, fuse_config* config) {
  config->hard_remove = 1;
  config->attr_timeout = 0;
  config->entry_timeout = 0;
  return nullptr;
}

void serve(std::string directory) {
  fuse_operations operations{};
  operations.init = fs_init;
  operations.getattr = fs_getattr;
  operations.readdir = fs_readdir;
  operations.open = fs_open;
  operations.read = fs_read;
  operations.write = fs_write;
  operations.fsync = fs_fsync;
  operations.truncate = fs_truncate;
  operations.chmod = fs_chmod;
  operations.utimens = fs_utimens;
  operations.unlink = fs_unlink;
  operations.rename = fs_rename;
  operations.setxattr = fs_setxattr;
  serve_fuse(operations, std::move(directory));
}

void* shared_memory(std::size_t size) {
  void* memory = ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) throw std::runtime_error("no shared memory");
  return memory;
}

}  // namespace

FailingFs::FailingFs(std::string directory)
    : directory_(std::move(directory)), shared_(new (shared_memory(sizeof(Shared))) Shared), server_([this](Peer&) {
        errors = &shared_->errors;
        serve(directory_);
      }) {
  await_fuse(directory_, "the file system that fails");
}

FailingFs::~FailingFs() {
  ::umount2(directory_.c_str(), MNT_DETACH);
  ::munmap(shared_, sizeof(Shared));
}

void FailingFs::fail(Call call, int error) { shared_->errors.at(call) = error; }

void FailingFs::stop() {
  server_.signal(SIGSTOP);
  const bool stopped = eventually([&] {
    siginfo_t info{};
    return ::waitid(P_PID, static_cast<id_t>(server_.pid()), &info, WSTOPPED | WNOHANG) == 0 && info.si_pid != 0;
  });
  if (!stopped) throw std::runtime_error("the file system does not stop");
}

void FailingFs::die() {
  server_.signal(SIGKILL);
  (void)server_.wait();
}

}  // namespace flockfs::test
