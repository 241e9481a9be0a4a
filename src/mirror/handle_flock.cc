#include "mirror/flocks.h"
#include "mirror/handlers.h"

namespace flockfs {
namespace {

void flock_call(fuse_req_t native, fuse_ino_t /*node*/, fuse_file_info* info, int operation) {
  serve(native, [&](Core& core, Request& request) {
    if (auto file = core.files.get(info->fh)) {
      core.flocks->call(std::move(request), std::move(file), operation);
    } else {
      request.error(EBADF);
    }
  });
}

}  // namespace

void add_flock_handlers(fuse_lowlevel_ops& ops) { ops.flock = flock_call; }

}  // namespace flockfs
