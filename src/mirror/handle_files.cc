#include <fcntl.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <vector>

#include "mirror/clients.h"
#include "mirror/handlers.h"
#include "mirror/open_pipeline.h"
#include "mirror/record_locks.h"
#include "mirror/release_desk.h"

namespace flockfs {
namespace {

// The most that one READ or WRITE carries (max_write and max_pages of fuse_conn_info).
constexpr std::size_t kMostBytes = 1 << 20;

void open(fuse_req_t native, fuse_ino_t node, fuse_file_info* info) {
  serve(native,
        [&](Core& core, Request& request) { core.opens->open(std::move(request), core.inode(node), info->flags); });
}

void create(fuse_req_t native, fuse_ino_t parent, const char* name, mode_t mode, fuse_file_info* info) {
  serve(native, [&](Core& core, Request& request) {
    core.opens->create(std::move(request), core.inode(parent), name, mode, info->flags);
  });
}

void tmpfile(fuse_req_t native, fuse_ino_t parent, mode_t mode, fuse_file_info* info) {
  serve(native, [&](Core& core, Request& request) {
    core.opens->create_unnamed(std::move(request), core.inode(parent), mode, info->flags);
  });
}

void read(fuse_req_t native, fuse_ino_t /*node*/, std::size_t size, off_t offset, fuse_file_info* info) {
  with_file(native, info, [&](Core& core, Request& request, OpenFile& file) {
    thread_local std::vector<char> bytes;
    size = std::min(size, kMostBytes);
    if (bytes.size() < size) bytes.resize(size);
    const ssize_t got = ::pread(file.fd(), bytes.data(), size, offset);
    if (got < 0) {
      request.error(errno);
      return;
    }
    core.counters.bytes.fetch_add(static_cast<std::uint64_t>(got), std::memory_order_relaxed);
    request.buffer(bytes.data(), static_cast<std::size_t>(got));
  });
}

// fcntl(2) can turn O_APPEND on and off after the open, and pwritev2(2) asks for the others by the write, so they are
// asked of each write (fs/fuse/file.c, fuse_write_flags).
int flags_of_write(int flags) {
  int wanted = (flags & O_APPEND) != 0 ? RWF_APPEND : 0;
  if ((flags & O_DSYNC) != 0) wanted |= RWF_DSYNC;
  if ((flags & O_SYNC) == O_SYNC) wanted |= RWF_SYNC;
  return wanted;
}

// As the client: a stranger's write drops set-id bits, an owner's without CAP_FSETID too, and nobody but root uses what
// the file system keeps for root. Pages that the kernel writes back have no client; they are the daemon's.
void write(fuse_req_t native, fuse_ino_t /*node*/, const char* bytes, std::size_t size, off_t offset,
           fuse_file_info* info) {
  with_file(native, info, [&](Core& core, Request& request, OpenFile& file) {
    ssize_t written = 0;
    int error = 0;
    {
      const CallerScope scope(info->writepage != 0 ? Caller{} : request.caller(), CallerScope::Rights::kPlain);
      const iovec part{const_cast<char*>(bytes), size};
      const int flags = info->writepage == 0 ? flags_of_write(info->flags) : 0;
      written = scope.ok() ? ::pwritev2(file.fd(), &part, 1, offset, flags) : -1;
      error = scope.ok() ? errno : EPERM;
    }
    if (written < 0) {
      request.error(error);
    } else {
      core.counters.bytes.fetch_add(static_cast<std::uint64_t>(written), std::memory_order_relaxed);
      request.written(static_cast<std::size_t>(written));
    }
  });
}

// close(2) of one descriptor: file systems that write late (NFS, quotas) tell of their errors here.
void flush(fuse_req_t native, fuse_ino_t /*node*/, fuse_file_info* info) {
  with_file(native, info, [&](Core& core, Request& request, OpenFile& file) {
    if (process_of(request.tid()) != file.opener) file.passed_around = true;
    const int copy = ::fcntl(file.fd(), F_DUPFD_CLOEXEC, 0);
    const int error = copy < 0 || ::close(copy) != 0 ? errno : 0;
    if (!file.inode->tells_closes()) {
      request.error(error);
      return;
    }
    // Once close(2) has returned others can have what the process had locked.
    auto answering = std::make_shared<Request>(std::move(request));
    core.records->flushed(file.inode, info->lock_owner, [answering, error] { answering->error(error); });
  });
}

void fsync(fuse_req_t native, fuse_ino_t /*node*/, int datasync, fuse_file_info* info) {
  with_file(native, info, [&](Core&, Request& request, OpenFile& file) {
    const int failed = datasync != 0 ? ::fdatasync(file.fd()) : ::fsync(file.fd());
    request.error(failed == 0 ? 0 : errno);
  });
}

void release(fuse_req_t native, fuse_ino_t /*node*/, fuse_file_info* info) {
  serve(native, [&](Core& core, Request& request) {
    auto file = core.files.take(info->fh);
    if (!file) {
      request.error(core.attribute_opens.take(info->fh) ? 0 : EBADF);
      return;
    }
    core.backing.close(request.native(), *file->inode);
    if (file->inode->tells_closes()) core.records->released(file->inode, info->fh);
    request.ok();
    core.releases->submit(std::move(file));
  });
}

void fallocate(fuse_req_t native, fuse_ino_t /*node*/, int mode, off_t offset, off_t length, fuse_file_info* info) {
  with_file(native, info, [&](Core&, Request& request, OpenFile& file) {
    int error = 0;
    {
      const CallerScope scope(request.caller(), CallerScope::Rights::kPlain);
      if (!scope.ok()) {
        error = EPERM;
      } else if (::fallocate(file.fd(), mode, offset, length) != 0) {
        error = errno;
      }
    }
    request.error(error);
  });
}

void copy_file_range(fuse_req_t native, fuse_ino_t /*node_in*/, off_t offset_in, fuse_file_info* info_in,
                     fuse_ino_t /*node_out*/, off_t offset_out, fuse_file_info* info_out, std::size_t length,
                     int flags) {
  with_file(native, info_out, [&](Core& core, Request& request, OpenFile& out) {
    const auto in = core.files.get(info_in->fh);
    if (!in) {
      request.error(EBADF);
      return;
    }
    ssize_t copied = 0;
    int error = 0;
    {
      const CallerScope scope(request.caller(), CallerScope::Rights::kPlain);
      copied = scope.ok() ? ::copy_file_range(in->fd(), &offset_in, out.fd(), &offset_out, length,
                                              static_cast<unsigned>(flags))
                          : -1;
      error = scope.ok() ? errno : EPERM;
    }
    if (copied < 0) {
      request.error(error);
    } else {
      request.written(static_cast<std::size_t>(copied));
    }
  });
}

void lseek(fuse_req_t native, fuse_ino_t /*node*/, off_t offset, int whence, fuse_file_info* info) {
  with_file(native, info, [&](Core&, Request& request, OpenFile& file) {
    // The descriptor's own position is used by nobody.
    const off_t position = ::lseek(file.fd(), offset, whence);
    if (position < 0) {
      request.error(errno);
    } else {
      request.position(position);
    }
  });
}

}  // namespace

void add_file_handlers(fuse_lowlevel_ops& ops) {
  ops.open = open;
  ops.create = create;
  ops.tmpfile = tmpfile;
  ops.read = read;
  ops.write = write;
  ops.flush = flush;
  ops.fsync = fsync;
  ops.release = release;
  ops.fallocate = fallocate;
  ops.copy_file_range = copy_file_range;
  ops.lseek = lseek;
}

}  // namespace flockfs
