#pragma once

#include <cerrno>
#include <exception>
#include <new>

#include "base/log.h"
#include "mirror/core.h"
#include "mirror/request.h"

namespace flockfs {

// The handlers of the kernel's requests, thin and by theme, entered into libfuse's table of operations.
void add_lookup_handlers(fuse_lowlevel_ops& ops);     // lookup, forget
void add_attribute_handlers(fuse_lowlevel_ops& ops);  // getattr, setattr, readlink, statfs
void add_directory_handlers(fuse_lowlevel_ops& ops);  // opendir, readdir, readdirplus, releasedir, fsyncdir
void add_change_handlers(fuse_lowlevel_ops& ops);     // mkdir, mknod, symlink, link, unlink, rmdir, rename
void add_file_handlers(fuse_lowlevel_ops& ops);       // open, create, read, write, ... release
void add_lock_handlers(fuse_lowlevel_ops& ops);       // getlk, setlk
void add_xattr_handlers(fuse_lowlevel_ops& ops);
void add_flock_handlers(fuse_lowlevel_ops& ops);
void add_ioctl_handlers(fuse_lowlevel_ops& ops);

// Runs one handler. No exception crosses into libfuse, which is C: out of memory is ENOMEM to the client, and the
// Request that unwinds with it is answered once all the same.
template <typename Handler>
void serve(fuse_req_t native, Handler handler) {
  Core& core = *static_cast<Core*>(fuse_req_userdata(native));
  Request request(native);
  try {
    handler(core, request);
  } catch (const std::bad_alloc&) {
    if (request.pending()) request.error(ENOMEM);
  } catch (const std::exception& error) {
    log_write(LogLevel::kError, LogLine("error").text("op", "request").quoted("reason", error.what()));
    if (request.pending()) request.error(EIO);
  }
}

// Runs a handler with the open file that the request names, or answers EBADF.
template <typename Handler>
void with_file(fuse_req_t native, const fuse_file_info* info, Handler handler) {
  serve(native, [&](Core& core, Request& request) {
    if (const auto file = core.files.get(info->fh)) {
      handler(core, request, *file);
    } else {
      request.error(EBADF);
    }
  });
}

// Notes that a reply is going to tell these attributes, which were read after `before`; reads them again if an open
// has happened meanwhile.
void tell(Core& core, const AttributeRecord::Moment& before, Inode& inode, struct stat& st);

// For how many seconds the kernel may keep these attributes.
[[nodiscard]] double attributes_last(const Core& core, const struct stat& st);

// What the kernel is told of an object that was looked up or made.
[[nodiscard]] fuse_entry_param entry_of(const Core& core, const Found& found);

// Looks a name up and answers with what was found; for lookup and all that make an object.
void answer_entry(Core& core, Request& request, const InodePtr& parent, const char* name);

}  // namespace flockfs
