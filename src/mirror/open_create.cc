#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <utility>

#include "mirror/clients.h"
#include "mirror/handlers.h"
#include "mirror/lock_probe.h"
#include "mirror/open_pipeline.h"
#include "mirror/release_desk.h"
#include "tree/make.h"

namespace flockfs {
namespace {

// How often a name that comes and goes is tried within one CREATE: each try is a few system calls, and the directory
// waits.
constexpr int kMostTries = 32;
// So many of them insist that the name still leads to the file once that is locked (DESIGN 1.3); then, as at every
// second try, what was there a moment ago is served (DESIGN 4.4).
constexpr int kStrictTries = 16;

}  // namespace

// Takes a lock if it can be had at once, on the open file description of `fd`: EAGAIN if not. `fd` stays the caller's;
// closing it does not end the lock. Where the file system has no locks and may do without, `hold` stays empty.
Status OpenPipeline::take_lock(int fd, LockMode mode, pid_t process, Hold& hold) {
  struct stat st {};
  if (::fstat(fd, &st) != 0) return errno_error();
  LockRequest wanted;
  wanted.file = {st.st_dev, st.st_ino};
  wanted.mode = mode;
  wanted.owner = {process, 0};
  wanted.fd = UniqueFd(::fcntl(fd, F_DUPFD_CLOEXEC, 0));
  if (!wanted.fd) return errno_error();
  auto outcome = locks_.try_acquire(wanted);
  if (!outcome) return Error{EAGAIN, {}};
  if (outcome->end != WaitEnd::kGranted) {
    if (core_.config.on_unsupported == Otherwise::kUnlocked && is_unsupported(outcome->error)) return {};
    return Error{outcome->error, {}};
  }
  hold = std::move(outcome->hold);
  return {};
}

void OpenPipeline::create(Request request, const InodePtr& parent, const char* name, mode_t mode, int flags) {
  auto directory = parent->path_fd();
  OpenSlots::Slot slot = core_.take_slot();
  if (!directory || parent->is_empty_mount() || !slot) {
    request.error(!directory ? directory.error().code : slot ? EACCES : EMFILE);
    return;
  }
  const pid_t tid = request.tid();
  const bool second = retries_.take_name(tid, parent, name);
  const Caller caller = request.maker(second ? mode | S_ISGID : mode);
  auto file = std::make_shared<OpenFile>();
  file->slot = std::move(slot);
  file->flags = flags;
  file->opener = process_of(tid);
  FilterDecision decision;
  if (!core_.filter.selects_everything()) decision = core_.filter.decide(core_.inodes.path_in(*parent, name));
  if (decision.selected) core_.lock_support->meet(parent->mount());
  const Links links = parent->mount().fuse ? Links::kOtherInode : Links::kSameInode;
  int lock_error = 0;
  const auto take = [&](int fd) {
    if (!decision.selected) return Status{};
    Status status = take_lock(fd, lock_mode_for_open(flags), file->opener, file->hold);
    lock_error = status || status.error().code == EAGAIN ? 0 : status.error().code;
    return status;
  };
  auto fd = decision.selected ? make_file(directory->get(), name, flags, mode, caller, take, links)
                              : make_file_plainly(directory->get(), name, flags, mode, caller);
  for (int tries = 0; second && !fd && (flags & O_EXCL) == 0 && !parent->mount().open_may_wait && tries < kMostTries;
       ++tries) {
    const int error = fd.error().code;
    if (error == EEXIST || error == EAGAIN) {
      fd = open_present(directory->get(), name, flags, caller, take, tries < kStrictTries);
    } else if (error == ENOENT) {
      fd = make_file(directory->get(), name, flags, mode, caller, take, links);
    } else {
      break;
    }
  }
  if (fd) {
    answer_created(std::move(request), parent, name, decision, *std::move(fd), file);
    return;
  }
  const bool taken = fd.error().code == EEXIST || fd.error().code == EAGAIN || fd.error().code == ENOENT;
  if (taken && !second) retries_.remember_name(tid, parent, name);
  if (lock_error != 0) log_error("lock", core_.inodes.path_in(*parent, name), Error{lock_error, {}});
  request.error(taken ? ESTALE : fd.error().code);
}

// The file that has the name now, for a client whose name comes and goes so fast that the kernel, which looks just once
// more, never meets it. With the client's own rights, since the kernel has not checked them for this file; its lock is
// only tried. EAGAIN if that is taken, or, if `strict`, the name leads to something else by then.
Result<UniqueFd> OpenPipeline::open_present(int directory, const char* name, int flags, const Caller& caller,
                                            const BeforeVisible& take, bool strict) {
  auto fd = open_as_caller(directory, name, flags, caller);
  if (!fd) return fd.error();
  if (auto taken = take(fd->get()); !taken) return taken.error();
  struct stat st {};
  struct stat there {};
  if (::fstat(fd->get(), &st) != 0) return errno_error();
  if (strict && (::fstatat(directory, name, &there, AT_SYMLINK_NOFOLLOW) != 0 || !same_file(st, there))) {
    return Error{EAGAIN, {}};
  }
  if ((flags & O_TRUNC) != 0) {
    const CallerScope scope(caller, CallerScope::Rights::kPlain);
    if (!scope.ok()) return Error{EPERM, {}};
    if (::ftruncate(fd->get(), 0) != 0) return errno_error();
  }
  return fd;
}

void OpenPipeline::create_unnamed(Request request, const InodePtr& parent, mode_t mode, int flags) {
  auto directory = parent->path_fd();
  OpenSlots::Slot slot = core_.take_slot();
  if (!directory || parent->is_empty_mount() || !slot) {
    request.error(!directory ? directory.error().code : slot ? EACCES : EMFILE);
    return;
  }
  auto file = std::make_shared<OpenFile>();
  file->slot = std::move(slot);
  file->flags = flags;
  file->opener = process_of(request.tid());
  auto fd = make_unnamed(directory->get(), flags, mode, request.maker(mode));
  if (!fd) {
    request.error(fd.error().code);
    return;
  }
  core_.lock_support->meet(parent->mount());
  if (auto taken = take_lock(fd->get(), lock_mode_for_open(flags), file->opener, file->hold); !taken) {
    log_error("lock", core_.inodes.path_in(*parent, "(unnamed)"), taken.error());
    request.error(taken.error().code);
    return;
  }
  answer_created(std::move(request), parent, "", {}, *std::move(fd), file);
}

void OpenPipeline::answer_created(Request request, const InodePtr& parent, const char* name,
                                  const FilterDecision& decision, UniqueFd fd, const std::shared_ptr<OpenFile>& file) {
  if (!file->locked()) file->plain = UniqueFd(::fcntl(fd.get(), F_DUPFD_CLOEXEC, 0));
  const AttributeRecord::Moment before = core_.attributes.now();
  auto found = core_.inodes.adopt(std::move(fd), parent, name);
  if (!found || file->fd() < 0) {
    request.error(found ? EMFILE : found.error().code);
    return;
  }
  file->inode = found->inode;
  file->since = SteadyClock().now();
  tell(core_, before, *found->inode, found->st);
  note_granted(*file, decision, "unsupported", Duration::zero());
  fuse_file_info info{};
  prepare_info(request.native(), *file, found->st, info);
  info.fh = core_.files.add(file);
  core_.releases->opened();
  if (request.created(entry_of(core_, *found), info) != 0) {
    core_.files.take(info.fh);
    core_.backing.close(nullptr, *file->inode);
    core_.inodes.forget(found->inode, 1);
  }
}

}  // namespace flockfs
