#pragma once

#include <sys/types.h>

#include <string>

#include "base/result.h"
#include "base/unique_fd.h"
#include "mirror/mirror_config.h"

namespace flockfs {

// The mount itself: /dev/fuse, mount(2), and what /proc/self/mountinfo says of it. Without fusermount and without a shell.

// Opens the FUSE device; the error says what a person can do about it.
Result<UniqueFd> open_fuse_device();

// Mounts at config.mountpoint, served through `device`. Returns the mount's device number, under which stat(2), maps and
// mountinfo show the mirror.
Result<dev_t> mount_fuse(const MirrorConfig& config, int device);

// Detaches the mirror from its mount point, if it is what is mounted there (and not something on top of it).
void detach(const std::string& mountpoint, dev_t mirror);

// Whether the mirror is mounted anywhere in this process's mount namespace. `mountinfo` is /proc/self/mountinfo, open.
bool is_mounted(int mountinfo, dev_t mirror);

}  // namespace flockfs
