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

constexpr std::size_t kNameAt = offsetof(Dirent64, d_name);

Dirent64 head_at(const char* bytes) {
  Dirent64 head{};
  std::memcpy(&head, bytes, kNameAt);
  return head;
}

}  // namespace

// False if it is not the cookie of an entry that is here, nor of what follows the last.
bool DirStream::Buffer::go_to(std::int64_t offset) {
  std::int64_t cookie = first;
  for (std::size_t place = 0;;) {
    if (cookie == offset) {
      at = place;
      position = offset;
      return true;
    }
    if (place >= end) return false;
    const Dirent64 head = head_at(bytes.data() + place);
    place += head.d_reclen;
    cookie = head.d_off;
  }
}

void DirStream::Buffer::drop_what_is_before() {
  if (end > at) std::memmove(bytes.data(), bytes.data() + at, end - at);  // before the first read there is none
  end -= at;
  at = 0;
  first = position;
}

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
  if (!buffer.started || offset == 0 || (offset != buffer.position && !buffer.go_to(offset))) {
    if (::lseek(fd_.get(), offset, SEEK_SET) < 0) return errno_error();
    buffer.started = true;
    buffer.at = buffer.end = 0;
    buffer.position = offset;
  }
  buffer.drop_what_is_before();
  for (;;) {
    if (buffer.at == buffer.end) {
      auto more = refill(buffer);
      if (!more) return more.error();
      if (!*more) return {};
    }
    const Dirent64 head = head_at(buffer.bytes.data() + buffer.at);
    const char* name = buffer.bytes.data() + buffer.at + kNameAt;
    if (!visitor.visit({name, head.d_ino, head.d_type, head.d_off})) return {};
    buffer.at += head.d_reclen;
    buffer.position = head.d_off;
  }
}

Result<bool> DirStream::refill(Buffer& buffer) const {
  buffer.bytes.resize(buffer.end + kBufferBytes);
  const long got = ::syscall(SYS_getdents64, fd_.get(), buffer.bytes.data() + buffer.end, kBufferBytes);
  if (got < 0) {
    buffer.started = false;
    return errno_error();
  }
  buffer.end += static_cast<std::size_t>(got);
  return got > 0;
}

}  // namespace flockfs
