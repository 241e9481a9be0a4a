#include "mirror/statx.h"

#include <linux/fuse.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/uio.h>

#include <array>
#include <cmath>
#include <cstring>

#include "mirror/handlers.h"

namespace flockfs {
namespace {

// From the kernel's include/uapi/linux/fuse.h, protocol 7.39 (Linux 6.6), which older headers do not have.
constexpr std::uint32_t kStatx = 52;

struct SxTime {
  std::int64_t tv_sec;
  std::uint32_t tv_nsec;
  std::int32_t reserved;
};

struct StatxIn {
  std::uint32_t getattr_flags;
  std::uint32_t reserved;
  std::uint64_t fh;
  std::uint32_t sx_flags;
  std::uint32_t sx_mask;
};

struct StatxOut {
  std::uint64_t attr_valid;
  std::uint32_t attr_valid_nsec;
  std::uint32_t flags;
  std::array<std::uint64_t, 2> spare;
  std::uint32_t mask;
  std::uint32_t blksize;
  std::uint64_t attributes;
  std::uint32_t nlink;
  std::uint32_t uid;
  std::uint32_t gid;
  std::uint16_t mode;
  std::uint16_t spare0;
  std::uint64_t ino;
  std::uint64_t size;
  std::uint64_t blocks;
  std::uint64_t attributes_mask;
  SxTime atime;
  SxTime btime;
  SxTime ctime;
  SxTime mtime;
  std::uint32_t rdev_major;
  std::uint32_t rdev_minor;
  std::uint32_t dev_major;
  std::uint32_t dev_minor;
  std::array<std::uint64_t, 14> spare2;
};
static_assert(sizeof(StatxIn) == 24 && sizeof(StatxOut) == 32 + 256);

SxTime sx_time(const timespec& time) { return {time.tv_sec, static_cast<std::uint32_t>(time.tv_nsec), 0}; }

StatxOut answer_of(const Looked& looked, double timeout) {
  const struct stat& st = looked.st;
  StatxOut out{};
  out.attr_valid = static_cast<std::uint64_t>(timeout);
  out.attr_valid_nsec = static_cast<std::uint32_t>((timeout - std::floor(timeout)) * 1e9);
  out.mask = STATX_BASIC_STATS;
  out.blksize = static_cast<std::uint32_t>(st.st_blksize);
  out.nlink = static_cast<std::uint32_t>(st.st_nlink);
  out.uid = st.st_uid;
  out.gid = st.st_gid;
  out.mode = static_cast<std::uint16_t>(st.st_mode);
  out.ino = st.st_ino;
  out.size = static_cast<std::uint64_t>(st.st_size);
  out.blocks = static_cast<std::uint64_t>(st.st_blocks);
  out.atime = sx_time(st.st_atim);
  out.ctime = sx_time(st.st_ctim);
  out.mtime = sx_time(st.st_mtim);
  if (looked.birth) {
    out.mask |= STATX_BTIME;
    out.btime = sx_time(*looked.birth);
  }
  out.rdev_major = major(st.st_rdev);
  out.rdev_minor = minor(st.st_rdev);
  return out;
}

// One write(2) is one answer. If the kernel does not take it, nobody waits for it any more.
void reply(const Core& core, std::uint64_t unique, int error, const StatxOut* out) {
  fuse_out_header header{};
  header.error = -error;
  header.unique = unique;
  std::array<iovec, 2> parts{iovec{&header, sizeof header}, {}};
  if (out != nullptr) parts[1] = {const_cast<StatxOut*>(out), sizeof *out};
  header.len = static_cast<std::uint32_t>(parts[0].iov_len + parts[1].iov_len);
  (void)::writev(fuse_session_fd(core.session), parts.data(), out != nullptr ? 2 : 1);
}

}  // namespace

bool answer_statx(Core& core, const fuse_buf& request) {
  fuse_in_header header{};
  if ((request.flags & FUSE_BUF_IS_FD) != 0 || request.size < sizeof header + sizeof(StatxIn)) return false;
  std::memcpy(&header, request.mem, sizeof header);
  if (header.opcode != kStatx) return false;
  try {
    const InodePtr inode = core.inode(header.nodeid);
    const AttributeRecord::Moment before = core.attributes.now();
    auto looked = core.look_at(*inode);
    if (!looked) {
      reply(core, header.unique, looked.error().code, nullptr);
      return true;
    }
    tell(core, before, *inode, looked->st);
    const StatxOut out = answer_of(*looked, attributes_last(core, looked->st));
    reply(core, header.unique, 0, &out);
  } catch (const std::bad_alloc&) {
    reply(core, header.unique, ENOMEM, nullptr);
  }
  return true;
}

}  // namespace flockfs
