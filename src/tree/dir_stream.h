#pragma once

#include <dirent.h>

#include <cstdint>
#include <string_view>
#include <vector>

#include "base/mutex.h"
#include "base/result.h"
#include "base/unique_fd.h"

namespace flockfs {

// An open directory of the source, read by getdents64(2) with the source's own cookies, so that seeking and entries
// that come and go meanwhile behave as they do there. Thread-safe; the kernel asks one at a time for each open file
// description.
class DirStream {
 public:
  struct Entry {
    std::string_view name;  // valid until the visitor returns
    std::uint64_t ino = 0;
    std::uint8_t type = 0;  // DT_*
    std::int64_t next = 0;  // the cookie of what follows
  };

  // Wants an entry more (true), or has no room for this one (false: it will be shown again).
  class Visitor {
   public:
    virtual ~Visitor() = default;
    virtual bool visit(const Entry& entry) = 0;
  };

  explicit DirStream(UniqueFd fd) : fd_(std::move(fd)) {}

  [[nodiscard]] int fd() const { return fd_.get(); }

  // Shows the entries from cookie `offset` (0: the start) on until the visitor has had enough or there are no more.
  // EBUSY if another thread is reading this stream.
  Status read(std::int64_t offset, Visitor& visitor);

 private:
  // What the source has told, from the entry with which the last read began. The kernel asks again for what did not fit
  // in its caller's buffer, which may be small; a seek in the source for that is slow on overlayfs, the further back
  // the slower.
  struct Buffer {
    std::vector<char> bytes;
    std::size_t at = 0;
    std::size_t end = 0;
    std::int64_t first = 0;     // the cookie of bytes[0]
    std::int64_t position = 0;  // the cookie of bytes[at]
    bool started = false;

    bool go_to(std::int64_t offset);
    void drop_what_is_before();
  };

  Status read_from(Buffer& buffer, std::int64_t offset, Visitor& visitor) const;
  Result<bool> refill(Buffer& buffer) const;

  const UniqueFd fd_;
  Mutex mutex_;
  bool busy_ GUARDED_BY(mutex_) = false;
  Buffer buffer_ GUARDED_BY(mutex_);
};

}  // namespace flockfs
