// Opens that the kernel makes for ioctl(2) with FS_IOC_GETFLAGS and its like (fs/fuse/ioctl.c,
// fuse_priv_ioctl_prepare).

#include <fcntl.h>

#include <utility>

#include "mirror/clients.h"
#include "mirror/open_task.h"

namespace flockfs {

// What the kernel opens for itself it opens with no flag at all, whereas open(2) adds O_LARGEFILE on a 64-bit system,
// for any program but an old 32-bit one. To set attributes it holds the inode meanwhile, as for truncate(2): whoever
// has the lock could not finish while we waited for it. So if it cannot be told who asks, the lock is tried only.
Purpose OpenPipeline::purpose_of(pid_t tid, int flags) {
  if (flags != O_RDONLY) return Purpose::kUse;
  switch (calling(tid)) {
    case Calling::kByPath:
    case Calling::k32BitOpen:
      return Purpose::kUse;
    case Calling::kFileAttributes:
      return Purpose::kAttributes;
    case Calling::kUnknown:
      break;
  }
  return Purpose::kUnclear;
}

// As chmod(2) does, it means the inode: no lock, whatever its names lead to by now, and no kernel passthrough.
void OpenPipeline::answer_for_attributes(Task task, UniqueFd fd) {
  fuse_file_info info{};
  info.noflush = 1;
  info.fh =
      core_.attribute_opens.add(std::make_shared<AttributeOpen>(AttributeOpen{std::move(task.slot), std::move(fd)}));
  if (task.request.opened(info) != 0) core_.attribute_opens.take(info.fh);
}

}  // namespace flockfs
