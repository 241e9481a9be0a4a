#pragma once

#include <sys/stat.h>

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "base/result.h"
#include "tree/file_handle.h"
#include "tree/source.h"

namespace flockfs {

// What statx(2) says of an object of the source.
struct Looked {
  struct stat st {};
  std::optional<timespec> birth;  // where the file system knows it
  std::uint64_t mount_id = 0;
};

// `fd` is the object itself (O_PATH will do).
Result<Looked> look_at(int fd);

// The handle by which an object is told from all others; empty where there is none that is good for that.
FileHandle identifying_handle(const SourceMount& mount, int fd);

// What tells an object from all others, as bytes: its handle, which says which object is meant even after the inode
// number has been given to another one. Where there is none: device, number and type.
std::string identity_of(const SourceMount& mount, const FileHandle& handle, const struct stat& st);

// How many bytes of an identity come before the handle.
inline constexpr std::size_t kHandleAt = sizeof SourceMount::index;

// Keeps an identity in little space: those of ext4, xfs, btrfs and tmpfs need no allocation.
class Identity {
 public:
  explicit Identity(std::string_view bytes);
  ~Identity();
  Identity(const Identity&) = delete;
  Identity& operator=(const Identity&) = delete;

  [[nodiscard]] std::string_view bytes() const { return {fits() ? room_.data() : elsewhere(), length_}; }

 private:
  [[nodiscard]] bool fits() const { return length_ <= room_.size(); }
  [[nodiscard]] char* elsewhere() const;

  std::array<char, 22> room_{};  // the bytes, or where they are
  std::uint16_t length_;
};

}  // namespace flockfs
