#include "tree/dir_stream.h"

#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstring>

namespace flockfs {
namespace {

constexpr std::size_t kBufferBytes = std::size_t{32} * 1024;

// getdents64(2).
struct Dirent64 {
  std::uint64_t d_ino;
  std::int64_t d_off;
  std::uint16_t d_reclen;
  std::uint8_t d_type;
  char d_name[1];
};

}  // namespace

Status DirStream::read(std::int64_t offset, Visitor& visitor) {
  // The buffer is taken out while it is worked on: getdents64(2) may wait for a disk.
  Buffer buffer;
  {
    MutexLock lock(mutex_);
    if (busy_) return Error{EBUSY, {}};
    busy_ = true;
    buffer = std::move(buffer_);
  }
  Status status = read_from(buffer, offset, visitor);
  MutexLock lock(mutex_);
  buffer_ = std::move(buffer);
  busy_ = false;
  return status;
}

Status DirStream::read_from(Buffer& buffer, std::int64_t offset, Visitor& visitor) const {
  // The start is always read anew: rewinddir(3) must see what has changed.
  if (!buffer.started || offset != buffer.position || offset == 0) {
    if (::lseek(fd_.get(), offset, SEEK_SET) < 0) return errno_error();
    buffer.started = true;
    buffer.at = buffer.end = 0;
    buffer.position = offset;
  }
  for (;;) {
    if (buffer.at == buffer.end) {
      auto more = refill(buffer);
      if (!more) return more.error();
      if (!*more) return {};
    }
    Dirent64 head{};
    std::memcpy(&head, buffer.bytes.data() + buffer.at, offsetof(Dirent64, d_name));
    const char* name = buffer.bytes.data() + buffer.at + offsetof(Dirent64, d_name);
    if (!visitor.visit({name, head.d_ino, head.d_type, head.d_off})) return {};
    buffer.at += head.d_reclen;
    buffer.position = head.d_off;
  }
}

Result<bool> DirStream::refill(Buffer& buffer) const {
  buffer.bytes.resize(kBufferBytes);
  const long got = ::syscall(SYS_getdents64, fd_.get(), buffer.bytes.data(), buffer.bytes.size());
  if (got < 0) {
    buffer.started = false;
    return errno_error();
  }
  buffer.at = 0;
  buffer.end = static_cast<std::size_t>(got);
  return got > 0;
}

}  // namespace flockfs
