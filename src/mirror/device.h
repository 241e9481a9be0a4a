#pragma once

#include <sys/types.h>

#include <cstdint>
#include <string>

#include "base/result.h"
#include "base/unique_fd.h"
#include "mirror/mirror_config.h"

namespace flockfs {

// The mount itself: /dev/fuse, mount(2), and what /proc/self/mountinfo says of it. Without fusermount and without a
// shell.

// Opens the FUSE device; the error says what a person can do about it.
Result<UniqueFd> open_fuse_device();

// A mount of the mirror.
struct MountPoint {
  dev_t dev = 0;  // under which stat(2), maps and mountinfo show the mirror; given to the next mount once it is gone
  std::uint64_t id = 0;  // statx(2) stx_mnt_id, never given again where the kernel can say so (Linux 6.8)
};

// Mounts at config.mountpoint, served through `device`.
Result<MountPoint> mount_fuse(const MirrorConfig& config, int device);

// Detaches the mirror from its mount point, if it is what is mounted there: not something on top of it, nor what was
// mounted after it had gone.
void detach(const std::string& mountpoint, const MountPoint& mirror);

// Whether the mirror is mounted anywhere in this process's mount namespace. `mountinfo` is /proc/self/mountinfo, open.
bool is_mounted(int mountinfo, dev_t mirror);

}  // namespace flockfs
