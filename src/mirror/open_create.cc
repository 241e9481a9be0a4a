#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <optional>
#include <utility>

#include "mirror/clients.h"
#include "mirror/handlers.h"
#include "mirror/lock_probe.h"
#include "mirror/open_pipeline.h"
#include "mirror/release_desk.h"
#include "tree/make.h"
#include "tree/open_or_make.h"

namespace flockfs {

// Takes a lock if it can be had at once, on the open file description of `fd`: EAGAIN if not. `fd` stays the caller's;
// closing it does not end the lock. Where the file system has no locks and may do without, `hold` stays empty.
Status OpenPipeline::take_lock(int fd, LockMode mode, pid_t process, Hold& hold, Origin origin, Joining joining) {
  struct stat st {};
  if (::fstat(fd, &st) != 0) return errno_error();
  LockRequest wanted;
  wanted.file = {st.st_dev, st.st_ino};
  wanted.mode = mode;
  wanted.owner = {process, 0};
  wanted.made = origin == Origin::kMade;
  wanted.fd = UniqueFd(::fcntl(fd, F_DUPFD_CLOEXEC, 0));
  if (!wanted.fd) return errno_error();
  auto outcome = locks_.try_acquire(wanted);
  if (!outcome && joining == Joining::kYes) outcome = locks_.try_join(wanted);
  if (outcome && outcome->end == WaitEnd::kLost) {
    ++core_.counters.lapsed;
    return Error{EAGAIN, {}};
  }
  if (!outcome) {
    core_.releases->hurry();
    return Error{EAGAIN, {}};
  }
  if (outcome->end != WaitEnd::kGranted) {
    if (core_.config.on_unsupported == Otherwise::kUnlocked && is_unsupported(outcome->error)) return {};
    return Error{outcome->error, {}};
  }
  hold = std::move(outcome->hold);
  return {};
}

struct OpenPipeline::Creation {
  const InodePtr& parent;
  WantedFile wanted;
  const FilterDecision& decision;
  OpenFile& file;
  std::optional<Error>& lock_file_error;  // why the last try could not have the lock file
};

void OpenPipeline::create(Request request, const InodePtr& parent, const char* name, mode_t mode, int flags) {
  auto directory = parent->path_fd();
  OpenSlots::Slot slot = core_.take_slot();
  if (!directory || parent->is_empty_mount() || !slot) {
    request.error(!directory ? directory.error().code : slot ? EACCES : EMFILE);
    return;
  }
  const pid_t tid = request.tid();
  const bool second = retries_.take_name(tid, parent, name);
  auto file = std::make_shared<OpenFile>();
  file->slot = std::move(slot);
  file->flags = flags;
  file->opener = process_of(tid);
  FilterDecision decision;
  if (!core_.filter.selects_everything()) decision = core_.filter.decide(core_.inodes.path_in(*parent, name));
  if (decision.selected) core_.lock_support->meet(parent->mount());
  // The kernel looks just once more, so this second look is for all the others. Where open(2) may wait there is none.
  const bool look_again = second && (flags & O_EXCL) == 0 && !parent->mount().open_may_wait;
  std::optional<Error> lock_file_error;
  const Creation creation{parent,
                          {directory->get(), name, flags, mode, request.maker(look_again ? mode | S_ISGID : mode),
                           parent->mount().fuse ? Links::kOtherInode : Links::kSameInode},
                          decision,
                          *file,
                          lock_file_error};
  auto fd = look_again ? make_or_open(creation) : make(creation);
  if (fd) {
    answer_created(std::move(request), parent, name, decision, *std::move(fd), file);
    return;
  }
  file->lock_files.reset();
  if (lock_file_error) {
    lock_file_refused(*parent, name, file->opener, *lock_file_error);
    request.error(lock_file_error->code);
    return;
  }
  const int error = fd.error().code;
  const bool changing = error == EEXIST || error == EAGAIN || error == ENOENT;
  if (changing && !second) retries_.remember_name(tid, parent, name);
  // At the second try there is no doubt: the name is not free for one who wants a free one, or the directory is gone.
  const bool sure = second && (error == ENOENT || (error == EEXIST && (flags & O_EXCL) != 0));
  request.error(changing && !sure ? ESTALE : error);
}

// What locks the file that is made, or found, for the client.
BeforeVisible OpenPipeline::locker(const Creation& creation, Origin origin, Hold& hold, LockFileHold& lock_files) {
  return [this, &creation, origin, &hold, &lock_files](int fd) {
    lock_files.reset();  // of a try before
    hold.reset();
    creation.lock_file_error.reset();
    if (!creation.decision.selected) return Status{};
    const auto& [directory, name, flags, mode, caller, links] = creation.wanted;
    Status taken = take_lock(fd, lock_mode_for_open(flags), creation.file.opener, hold, origin);
    if (!taken && taken.error().code != EAGAIN) {
      ++core_.counters.refused;
      log_error("lock", core_.inodes.path_in(*creation.parent, name), taken.error());
    }
    if (!taken || !wants_lock_file(hold)) return taken;
    taken = take_lock_file_of_new(creation.parent, name, caller, lock_files);
    if (!taken) creation.lock_file_error = taken.error();
    return taken;
  };
}

Result<UniqueFd> OpenPipeline::make(const Creation& creation) {
  const auto& [directory, name, flags, mode, caller, links] = creation.wanted;
  if (!creation.decision.selected) return make_file_plainly(directory, name, flags, mode, caller);
  OpenFile& file = creation.file;
  return make_file(directory, name, flags, mode, caller, locker(creation, Origin::kMade, file.hold, file.lock_files),
                   links);
}

Result<UniqueFd> OpenPipeline::make_or_open(const Creation& creation) {
  OpenFile& file = creation.file;
  Hold made;
  LockFileHold made_lock_files;
  auto fd = open_or_make(creation.wanted, locker(creation, Origin::kMade, made, made_lock_files),
                         locker(creation, Origin::kFound, file.hold, file.lock_files));
  if (!fd) return fd.error();
  if (fd->made) {
    file.hold = std::move(made);
    file.lock_files = std::move(made_lock_files);
  }
  return std::move(fd->fd);
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
  if (auto taken = take_lock(fd->get(), lock_mode_for_open(flags), file->opener, file->hold, Origin::kMade); !taken) {
    log_error("lock", core_.inodes.path_in(*parent, "(unnamed)"), taken.error());
    deny(request, taken.error().code);
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
  file->since = now();
  file->keep_inode_within_reach();
  tell(core_, before, *found->inode, found->st);
  note_granted(*file, decision, "unsupported", Duration::zero());
  fuse_file_info info{};
  prepare_info(request.native(), file, found->st, {}, info);
  info.fh = core_.files.add(file);
  core_.releases->opened();
  if (request.created(entry_of(core_, *found), info) != 0) {
    core_.files.take(info.fh);
    core_.backing.close(nullptr, *file->inode);
    core_.inodes.forget(found->inode, 1);
  }
}

}  // namespace flockfs
