#include "mirror/lock_file_identity.h"

#include <fcntl.h>
#include <sys/stat.h>

namespace flockfs {

Result<LockFileLook> look_at_lock_file(int fd) {
  struct statx info {};
  if (::statx(fd, "", AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW, STATX_BASIC_STATS | STATX_BTIME, &info) != 0) {
    return errno_error();
  }
  LockFileLook look;
  look.identity.ino = info.stx_ino;
  look.identity.owner = info.stx_uid;
  if ((info.stx_mask & STATX_BTIME) != 0) {
    look.identity.birth_ns = std::int64_t{info.stx_btime.tv_sec} * 1'000'000'000 + info.stx_btime.tv_nsec;
  }
  if (look.identity.birth_ns == 0) look.identity.handle = handle_of(fd).value_or(FileHandle{});
  look.size = info.stx_size;
  look.regular = S_ISREG(info.stx_mode);
  return look;
}

bool same_object(const LockFileIdentity& one, const LockFileIdentity& other) {
  return one.certain() && one.ino == other.ino && one.birth_ns == other.birth_ns && one.handle == other.handle;
}

}  // namespace flockfs
