#include "tree/identity.h"

#include <fcntl.h>
#include <sys/sysmacros.h>

#include <cstring>

namespace flockfs {

Result<Looked> look_at(int fd) {
  struct statx info {};
  if (::statx(fd, "", AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW, STATX_BASIC_STATS | STATX_BTIME | STATX_MNT_ID, &info) !=
      0) {
    return errno_error();
  }
  Looked looked;
  struct stat& st = looked.st;
  st.st_dev = makedev(info.stx_dev_major, info.stx_dev_minor);
  st.st_ino = info.stx_ino;
  st.st_mode = info.stx_mode;
  st.st_nlink = info.stx_nlink;
  st.st_uid = info.stx_uid;
  st.st_gid = info.stx_gid;
  st.st_rdev = makedev(info.stx_rdev_major, info.stx_rdev_minor);
  st.st_size = static_cast<off_t>(info.stx_size);
  st.st_blksize = info.stx_blksize;
  st.st_blocks = static_cast<blkcnt_t>(info.stx_blocks);
  st.st_atim = {info.stx_atime.tv_sec, info.stx_atime.tv_nsec};
  st.st_mtim = {info.stx_mtime.tv_sec, info.stx_mtime.tv_nsec};
  st.st_ctim = {info.stx_ctime.tv_sec, info.stx_ctime.tv_nsec};
  if ((info.stx_mask & STATX_BTIME) != 0) looked.birth = {info.stx_btime.tv_sec, info.stx_btime.tv_nsec};
  looked.mount_id = info.stx_mnt_id;
  return looked;
}

FileHandle identifying_handle(const SourceMount& mount, int fd) {
  return mount.handles ? handle_of(fd).value_or(FileHandle{}) : FileHandle{};
}

std::string identity_of(const SourceMount& mount, const FileHandle& handle, const struct stat& st) {
  std::string key(reinterpret_cast<const char*>(&mount.index), sizeof mount.index);
  if (!handle.empty()) return key += handle;
  const auto add = [&key](const auto& value) { key.append(reinterpret_cast<const char*>(&value), sizeof value); };
  add(st.st_dev);
  add(st.st_ino);
  // A number that is given out anew while nobody has the object open: at least a file is never taken for a directory.
  add(static_cast<std::uint16_t>(st.st_mode & S_IFMT));
  return key;
}

Identity::Identity(std::string_view bytes) : length_(static_cast<std::uint16_t>(bytes.size())) {
  if (fits()) {
    std::memcpy(room_.data(), bytes.data(), bytes.size());
    return;
  }
  char* const copy = new char[bytes.size()];
  std::memcpy(copy, bytes.data(), bytes.size());
  std::memcpy(room_.data(), &copy, sizeof copy);
}

Identity::~Identity() {
  if (!fits()) delete[] elsewhere();
}

char* Identity::elsewhere() const {
  char* at = nullptr;
  std::memcpy(&at, room_.data(), sizeof at);
  return at;
}

}  // namespace flockfs
