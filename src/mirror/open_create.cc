#include <fcntl.h>
#include <sys/stat.h>

#include <utility>

#include "mirror/clients.h"
#include "mirror/handlers.h"
#include "mirror/open_pipeline.h"
#include "mirror/release_desk.h"
#include "tree/make.h"

namespace flockfs {

Status OpenPipeline::take_new(int fd, int flags, pid_t process, Hold& hold) {
  struct stat st {};
  if (::fstat(fd, &st) != 0) return errno_error();
  LockRequest wanted;
  wanted.file = {st.st_dev, st.st_ino};
  wanted.mode = lock_mode_for_open(flags);
  wanted.owner = {process, 0};
  wanted.fd = UniqueFd(::fcntl(fd, F_DUPFD_CLOEXEC, 0));
  if (!wanted.fd) return errno_error();
  auto outcome = locks_.try_acquire(wanted);
  if (!outcome) return Error{EAGAIN, {}};
  if (outcome->end != WaitEnd::kGranted) return Error{outcome->error, {}};
  hold = std::move(outcome->hold);
  return {};
}

void OpenPipeline::create(Request request, const InodePtr& parent, const char* name, mode_t mode, int flags) {
  auto directory = parent->path_fd();
  if (!directory || parent->is_empty_mount()) {
    request.error(directory ? EACCES : directory.error().code);
    return;
  }
  const Caller caller = request.maker(mode);
  auto file = std::make_shared<OpenFile>();
  file->flags = flags;
  file->opener = process_of(request.tid());
  FilterDecision decision;
  if (!core_.filter.selects_everything()) decision = core_.filter.decide(core_.inodes.path_in(*parent, name));
  const auto take = [&](int fd) { return take_new(fd, flags, file->opener, file->hold); };
  auto fd = decision.selected ? make_file(directory->get(), name, flags, mode, caller, take)
                              : make_file_plainly(directory->get(), name, flags, mode, caller);
  if (!fd) {
    request.error(fd.error().code == EEXIST ? ESTALE : fd.error().code);
    return;
  }
  answer_created(std::move(request), parent, name, decision, *std::move(fd), std::move(file));
}

void OpenPipeline::create_unnamed(Request request, const InodePtr& parent, mode_t mode, int flags) {
  auto directory = parent->path_fd();
  if (!directory || parent->is_empty_mount()) {
    request.error(directory ? EACCES : directory.error().code);
    return;
  }
  auto file = std::make_shared<OpenFile>();
  file->flags = flags;
  file->opener = process_of(request.tid());
  auto fd = make_unnamed(directory->get(), flags, mode, request.maker(mode));
  if (!fd) {
    request.error(fd.error().code);
    return;
  }
  if (auto taken = take_new(fd->get(), flags, file->opener, file->hold); !taken) {
    request.error(taken.error().code);
    return;
  }
  answer_created(std::move(request), parent, "", {}, *std::move(fd), std::move(file));
}

void OpenPipeline::answer_created(Request request, const InodePtr& parent, const char* name,
                                  const FilterDecision& decision, UniqueFd fd, std::shared_ptr<OpenFile> file) {
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
  note_granted(*file, decision, Duration::zero());
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
