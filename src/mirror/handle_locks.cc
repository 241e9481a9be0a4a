#include <fcntl.h>
#include <sys/stat.h>

#include <memory>
#include <utility>
#include <vector>

#include "mirror/handlers.h"
#include "mirror/late_release.h"
#include "mirror/open_pipeline.h"
#include "mirror/record_locks.h"

namespace flockfs {
namespace {

// `process`: as the kernel names it with a lock, not with an unlock.
RecordLocks::Client client_of(Core& core, const OpenFile& file, const fuse_file_info& info, pid_t process, pid_t tid) {
  const bool apart = core.config.lock != LockKind::kFlock && core.opens->selects(*file.inode);
  return {file.inode, info.lock_owner, info.fh, file.flags, process, tid, apart};
}

RecordLock record_lock_of(const struct flock& lock) { return {lock.l_type, lock.l_start, lock.l_len}; }

void answer(Request& request, const RecordLocks::Conflict& conflict) {
  if (conflict.error != 0) {
    request.error(conflict.error);
    return;
  }
  const RecordConflict& found = conflict.found;
  struct flock lock {};
  lock.l_type = found.lock.type;
  lock.l_whence = SEEK_SET;
  lock.l_start = found.lock.start;
  lock.l_len = found.lock.length;
  lock.l_pid = found.holder;
  request.lock(lock);
}

void getlk(fuse_req_t native, fuse_ino_t /*node*/, fuse_file_info* info, struct flock* lock) {
  serve(native, [&](Core& core, Request& request) {
    const auto file = core.files.get(info->fh);
    if (!file) {
      request.error(EBADF);
      return;
    }
    const auto client = client_of(core, *file, *info, 0, request.tid());
    const RecordLock asked = record_lock_of(*lock);
    if (file->inode->mount().open_may_wait) {
      auto answering = std::make_shared<Request>(std::move(request));
      const auto look = [answering, &core, client, asked, file] {
        answer(*answering, core.records->find(client, asked, file->fd()));
      };
      if (!core.pool->run(look)) look();
      return;
    }
    answer(request, core.records->find(client, asked, file->fd()));
  });
}

// What is seen under a lock is what its last holder has left. Attributes that have changed behind the kernel's back it
// must ask for anew; of data it notes itself then that they have changed, if not within one tick of the clock, so where
// it caches them they are dropped. That can make it write pages back and wait for us: not in a FUSE worker.
void answer_locked(Core& core, const std::shared_ptr<Request>& answering, std::uint64_t number) {
  const auto file = core.files.get(number);
  struct stat st {};
  if (!file || ::fstat(file->fd(), &st) != 0 || core.attributes.current(*file->inode, st)) {
    answering->ok();
    return;
  }
  core.opens->forget_attributes(*file->inode, st);
  const auto drop_and_answer = [&core, answering, node = core.node(*file->inode), inode = file->inode] {
    fuse_lowlevel_notify_inval_inode(core.session, node, 0, 0);
    answering->ok();
  };
  if (file->passthrough || !core.pool->run(drop_and_answer)) answering->ok();
}

// The lock was refused. Returns when nobody of the mirror is in its way that has closed the file already.
void await_late_release(Core& core, const RecordLocks::Client& client, const RecordLock& lock, const OpenFile& file) {
  LateRelease late(core, *file.inode);
  std::vector<Blocker> in_the_way;
  do {
    const auto conflict = core.records->find(client, lock, file.fd());
    in_the_way.clear();
    if (conflict.ours) in_the_way.push_back({conflict.found.holder, LockMode::kExclusive, true});
  } while (late.look_again(in_the_way, false));
}

// Ends of waits come from the thread that waited (RecordLocks). A handled signal makes fcntl(2) fail with EINTR or,
// with SA_RESTART, start again; so does the kernel after a stop, a debugger or a signal that does nothing: it asks
// again.
void setlk(fuse_req_t native, fuse_ino_t /*node*/, fuse_file_info* info, struct flock* lock, int sleep) {
  serve(native, [&](Core& core, Request& request) {
    const auto file = core.files.get(info->fh);
    if (!file) {
      request.error(EBADF);
      return;
    }
    file->inode->tell_closes();
    auto answering = std::make_shared<Request>(std::move(request));
    const auto arrange = [answering](RecordLocks::WaitId id) {
      answering->on_interrupt(id, [](Core& mirror, std::uint64_t wait) { mirror.records->interrupt(wait); });
    };
    const auto client = client_of(core, *file, *info, lock->l_pid, answering->tid());
    const bool look = lock->l_type != F_UNLCK && !client.apart;
    const auto done = [answering, &core, look, number = info->fh](int error) {
      answering->not_on_interrupt();
      if (error == 0 && look) {
        answer_locked(core, answering, number);
      } else {
        answering->error(error);
      }
    };
    const RecordLock asked = record_lock_of(*lock);
    if (sleep != 0 || lock->l_type == F_UNLCK) {
      core.records->set(client, asked, sleep != 0, arrange, done);
      return;
    }
    // What was closed before the call is no reason to refuse.
    const auto again = [&core, client, asked, file, arrange, done] {
      await_late_release(core, client, asked, *file);
      core.records->set(client, asked, false, arrange, done);
    };
    core.records->set(client, asked, false, arrange, [&core, again, done](int error) {
      if (error != EAGAIN || !core.pool->run(again)) done(error);
    });
  });
}

}  // namespace

void add_lock_handlers(fuse_lowlevel_ops& ops) {
  ops.getlk = getlk;
  ops.setlk = setlk;
}

}  // namespace flockfs
