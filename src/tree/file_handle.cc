#include "tree/file_handle.h"

#include <fcntl.h>

#include <cstring>

namespace flockfs {
namespace {

// A file_handle with room for the largest.
union HandleBuffer {
  file_handle handle;
  char room[sizeof(file_handle) + MAX_HANDLE_SZ];
};

}  // namespace

std::optional<FileHandle> handle_of(int fd) {
  HandleBuffer buffer{};
  buffer.handle.handle_bytes = MAX_HANDLE_SZ;
  int mount_id = 0;
  if (::name_to_handle_at(fd, "", &buffer.handle, &mount_id, AT_EMPTY_PATH) != 0) return std::nullopt;
  const int type = buffer.handle.handle_type;
  if (type < 0 || type > UINT8_MAX) return std::nullopt;  // include/linux/exportfs.h has none
  FileHandle packed(1 + buffer.handle.handle_bytes, static_cast<char>(type));
  std::memcpy(packed.data() + 1, buffer.handle.f_handle, buffer.handle.handle_bytes);
  return packed;
}

Result<UniqueFd> open_handle(int mount_fd, std::string_view handle, int flags) {
  HandleBuffer buffer{};
  if (handle.empty() || handle.size() - 1 > MAX_HANDLE_SZ) return Error{ESTALE, {}};
  buffer.handle.handle_type = static_cast<unsigned char>(handle[0]);
  buffer.handle.handle_bytes = static_cast<unsigned>(handle.size() - 1);
  std::memcpy(buffer.handle.f_handle, handle.data() + 1, handle.size() - 1);
  UniqueFd fd(::open_by_handle_at(mount_fd, &buffer.handle, flags | O_CLOEXEC));
  // While the number of a gone inode is being given to a new one, ext4 says ENOMEM (iget_locked() finds I_CREATING).
  if (!fd) return Error{errno == ENOMEM ? ESTALE : errno, {}};
  return fd;
}

bool handles_work(int dir_fd) {
  auto handle = handle_of(dir_fd);
  return handle && open_handle(dir_fd, *handle, O_PATH).ok();
}

}  // namespace flockfs
