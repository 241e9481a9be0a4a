#include "mirror/open_pipeline.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <chrono>
#include <thread>
#include <utility>

#include "base/log.h"
#include "mirror/clients.h"
#include "mirror/handlers.h"
#include "mirror/lock_probe.h"
#include "mirror/open_task.h"
#include "mirror/release_desk.h"
#include "mirror/wait_watcher.h"
#include "tree/open_flags.h"

namespace flockfs {
namespace {

// How long an open waits for a descriptor of a file that is closed but may still be mapped.
constexpr auto kSlotLimit = std::chrono::seconds(1);
constexpr auto kSlotLook = std::chrono::milliseconds(1);

}  // namespace

// An open that waits for its lock.
class OpenPipeline::Parked final : public LockWaiter {
 public:
  Parked(OpenPipeline& pipeline, Task task)
      : pipeline_(pipeline),
        inode_(task.inode),
        subject_{pipeline.core_, *inode_, task.mode(), task.process},
        watched_(pipeline.core_),
        task_(std::move(task)) {
    pipeline_.waiting_.add(*inode_);
  }
  Parked(const Parked&) = delete;
  Parked& operator=(const Parked&) = delete;

  void on_parked(WaitId id) override {
    task_.request.on_interrupt(id, [](Core& core, std::uint64_t wait) { core.opens->interrupt_lock(wait); });
  }

  void on_wait() override {
    waits_ = true;
    ++pipeline_.core_.counters.waited;
    log_wait(subject_);
    pipeline_.tell_watcher(watched_, subject_);
  }

  void on_outcome(LockOutcome outcome) override {
    task_.request.not_on_interrupt();
    pipeline_.waiting_.remove(*inode_);  // before the answer: what the client does next must not find itself waiting
    if (waits_) pipeline_.core_.counters.wait_ended(outcome.waited);
    watched_.ended(outcome.waited);
    pipeline_.granted(std::move(task_), std::move(outcome));
  }

  void on_long_wait(Duration waited, const std::vector<Blocker>& blockers) override {
    log_long_wait(subject_, waited, blockers);
  }

  void on_possible_deadlock(const std::vector<pid_t>& processes) override { log_deadlock(subject_, processes, false); }
  [[nodiscard]] std::string path() const override { return subject_.core.inodes.path(subject_.inode); }

 private:
  OpenPipeline& pipeline_;
  const InodePtr inode_;
  const Subject subject_;
  WatchedWait watched_;
  Task task_;
  bool waits_ = false;
};

FilterDecision OpenPipeline::decide(const Inode& inode) const {
  if (core_.filter.selects_everything()) return {};
  const auto paths = core_.inodes.paths(inode);
  FilterDecision decision;
  if (paths.empty()) return {};            // a file without a name is locked: it may be given any
  for (const std::string& path : paths) {  // one selected name is enough: the lock is the file's
    decision = core_.filter.decide(path);
    if (decision.selected) break;
  }
  return decision;
}

void OpenPipeline::open(Request request, InodePtr inode, int flags) {
  if (!inode->is_regular()) {
    request.error(ENXIO);
    return;
  }
  const pid_t tid = request.tid();
  Caller caller = request.caller();
  const FilterDecision decision = decide(*inode);
  Task task{core_.slots.take(),
            std::move(request),
            std::move(inode),
            flags,
            std::move(caller),
            tid,
            process_of(tid),
            now(),
            decision};
  task.purpose = purpose_of(tid, flags);
  if (task.purpose == Purpose::kAttributes) task.decision.selected = false;
  task.second = second_try(tid, *task.inode, task.mode());
  if (task.slot) {
    open_now(std::move(task));
  } else if (core_.releases->kept() > 0) {
    wait_for_slot(std::move(task));
  } else {
    refuse(std::move(task));
  }
}

// All descriptors are taken, but some by files that are closed already and not looked at yet: in a thread that may
// sleep.
void OpenPipeline::wait_for_slot(Task task) {
  auto shared = std::make_shared<Task>(std::move(task));
  const bool started = core_.pool->run([this, shared] {
    const TimePoint limit = now() + kSlotLimit;
    core_.releases->hurry();
    while (!shared->slot && now() < limit && !core_.stopping) {
      std::this_thread::sleep_for(kSlotLook);
      shared->slot = core_.slots.take();
    }
    if (shared->slot) {
      open_now(std::move(*shared));
    } else {
      refuse(std::move(*shared));
    }
  });
  if (!started) refuse(std::move(*shared));
}

void OpenPipeline::refuse(Task task) {
  core_.say_exhausted();
  deny(task.request, EMFILE);
}

// open(2) breaks leases and waits for their holders, unless O_NONBLOCK says otherwise.
void OpenPipeline::open_now(Task task) {
  if (task.inode->mount().open_may_wait) {
    open_slowly(std::move(task), std::nullopt);
    return;
  }
  auto fd = task.inode->open(reopen_flags(task.flags) | O_NONBLOCK);
  if (!fd && fd.error().code == EWOULDBLOCK) {
    if (task.purpose == Purpose::kAttributes) {  // it would wait with the inode locked
      task.request.error(EAGAIN);
      return;
    }
    // The holder of a lease has been asked to give it up; without it there is no open, locked or not.
    if (task.decision.selected && tries_once(task)) {
      timed_out(std::move(task));
      return;
    }
    const auto deadline = task.decision.selected ? deadline_of(task) : std::nullopt;
    open_slowly(std::move(task), deadline);
    return;
  }
  // O_NONBLOCK means nothing for a regular file of an ordinary file system once it is open.
  if (fd && (task.flags & (O_APPEND | O_SYNC | O_DSYNC | O_NOATIME)) != 0) {
    const int append = (task.flags & O_APPEND) != 0 ? ::fcntl(fd->get(), F_GETFL) & O_APPEND : 0;
    ::fcntl(fd->get(), F_SETFL, (source_flags(task.flags) & ~O_ACCMODE) | append);
  }
  opened(std::move(task), fd ? 0 : fd.error().code, fd ? *std::move(fd) : UniqueFd{});
}

void OpenPipeline::interrupt_open_by(const Request& request, SlowOpens::Id id) {
  request.on_interrupt(id, [](Core& core, std::uint64_t open) { core.opens->interrupt_open(open); });
}

void OpenPipeline::open_slowly(Task task, std::optional<TimePoint> deadline) {
  const int flags = reopen_flags(task.flags);
  const pid_t tid = task.tid;
  task.parked = true;
  const InodePtr inode = task.inode;
  auto shared = std::make_shared<Task>(std::move(task));
  const auto arrange = [shared](SlowOpens::Id id) { interrupt_open_by(shared->request, id); };
  // The task itself may be on its way already.
  const auto watched = core_.watcher == nullptr ? nullptr : std::make_shared<WatchedWait>(core_);
  const auto on_wait = [this, inode, watched, mode = shared->mode(), process = shared->process] {
    ++core_.counters.waited;
    log_wait({core_, *inode, mode, process});
    if (watched) watched->began({core_, *inode, mode, process});
  };
  waiting_.add(*inode);
  const auto done = [this, shared, inode, watched](SlowOpens::Opened result) {
    waiting_.remove(*inode);
    if (watched) watched->ended(now() - shared->started);
    shared->request.not_on_interrupt();
    opened(std::move(*shared), result.error, std::move(result.fd));
  };
  slow_.open(inode, flags, tid, arrange, done, on_wait, deadline);
}

void OpenPipeline::opened(Task task, int error, UniqueFd fd) {
  if (error == 0) {
    // It has been opened, so nothing has to be kept for it; an open that begins anew after a lock file needs it again.
    if (task.second && core_.lock_files == nullptr) task.second->kept.reset();
    lock(std::move(task), std::move(fd));
    return;
  }
  if (error == EINTR) {
    ++core_.counters.interrupted;
    log_interrupted(task.subject(core_), now() - task.started);
  }
  if (error == ETIMEDOUT) {
    timed_out(std::move(task));
    return;
  }
  if (error == ESTALE) retries_.remember(task.tid, task.inode, core_.inodes.names(*task.inode));
  if (error == EAGAIN) ++core_.counters.refused;  // no thread for it
  task.request.error(error);
}

void OpenPipeline::lock(Task task, UniqueFd fd) {
  if (task.purpose == Purpose::kAttributes) {
    answer_for_attributes(std::move(task), std::move(fd));
    return;
  }
  if (!task.decision.selected) {
    auto file = std::make_shared<OpenFile>();
    file->plain = std::move(fd);
    finish(std::move(task), std::move(file));
    return;
  }
  core_.lock_support->meet(task.inode->mount());
  LockRequest wanted;
  wanted.file = {task.inode->dev(), task.inode->ino()};
  wanted.mode = task.mode();
  wanted.owner = {task.process, 0};
  wanted.tid = task.tid;
  wanted.fd = std::move(fd);
  if (core_.config.on_timeout == Otherwise::kUnlocked || core_.config.on_unsupported == Otherwise::kUnlocked) {
    task.spare = UniqueFd(::fcntl(wanted.fd.get(), F_DUPFD_CLOEXEC, 0));
    if (!task.spare) {
      refuse(std::move(task));
      return;
    }
  }
  if (auto outcome = locks_.try_acquire(wanted)) {
    outcome->waited = now() - task.started;
    granted(std::move(task), *std::move(outcome));
    return;
  }
  core_.releases->hurry();
  if (tries_once(task)) {
    try_again(std::move(task), std::move(wanted));
  } else {
    wanted.deadline = deadline_of(task);
    park(std::move(task), std::move(wanted));
  }
}

void OpenPipeline::park(Task task, LockRequest wanted) {
  task.parked = true;
  locks_.park(std::move(wanted), std::make_shared<Parked>(*this, std::move(task)));
}

void OpenPipeline::granted(Task task, LockOutcome outcome) {
  switch (outcome.end) {
    case WaitEnd::kGranted: {
      auto file = std::make_shared<OpenFile>();
      file->hold = std::move(outcome.hold);
      task.waited = outcome.waited;
      if (!take_lock_files(task, file)) return;
      finish(std::move(task), std::move(file));
      return;
    }
    case WaitEnd::kInterrupted:
      ++core_.counters.interrupted;
      log_interrupted(task.subject(core_), outcome.waited);
      task.request.error(EINTR);
      return;
    case WaitEnd::kTimedOut:
      timed_out(std::move(task));
      return;
    case WaitEnd::kStopped:
      task.request.error(ENOTCONN);
      return;
    case WaitEnd::kDeadlock:
      ++core_.counters.deadlocks;
      log_deadlock(task.subject(core_), {task.process}, true);
      deny(task.request, EDEADLK);
      return;
    case WaitEnd::kLost:
      ++core_.counters.lapsed;
      log_lapsed(task.subject(core_), "upgrade");
      deny(task.request, EAGAIN);
      return;
    case WaitEnd::kFailed:
      if (is_unsupported(outcome.error)) {
        unsupported(std::move(task), outcome.error);
        return;
      }
      log_open_error(task.subject(core_), "lock", outcome.error);
      deny(task.request, outcome.error);
      return;
  }
}

// REQUIRES: the lock, if one is wanted, is held: from here on the file is as its last holder left it.
void OpenPipeline::finish(Task task, std::shared_ptr<OpenFile> file) {
  if (truncating_.any(*task.inode)) {
    finish_after_truncation(std::move(task), std::move(file));
  } else {
    finish_now(std::move(task), std::move(file));
  }
}

void OpenPipeline::finish_now(Task task, std::shared_ptr<OpenFile> file) {
  file->slot = std::move(task.slot);
  file->inode = task.inode;
  file->flags = task.flags;
  file->opener = task.process;
  file->since = now();
  file->keep_inode_within_reach();
  struct stat st {};
  // Before each of these answers the lock: whoever is told may try it at once.
  const auto fail = [&](int error) {
    file.reset();
    task.request.error(error);
  };
  UniqueFd path;
  if (task.takes_what_is_there() || !plainly_leads_here(*task.inode, st, path)) {
    path = {};
    if (::fstat(file->fd(), &st) != 0) {
      fail(errno);
      return;
    }
    if (!task.takes_what_is_there() && !leads_here(task.tid, task.inode, st)) {
      fail(ESTALE);  // the kernel comes back for the file that has the name now
      return;
    }
  }
  if (const int error = truncate_as_asked(task, file->fd(), st); error != 0) {
    fail(error);
    return;
  }
  answer(std::move(task), file, st, path);
}

void OpenPipeline::prepare_info(fuse_req_t request, const std::shared_ptr<OpenFile>& file, const struct stat& st,
                                const UniqueFd& path, fuse_file_info& info) {
  const BackingFiles::Way way = core_.backing.open(request, file, path.get(), st);
  file->passthrough = way.id != 0;
  info.flags = file->flags;
  info.backing_id = way.id;
  info.direct_io = way.by_us ? 1 : 0;
  // Writing needs FLUSH at close(2), where the source's write errors come out; so do record locks, which end there.
  info.noflush = !file->writes() && !file->inode->tells_closes() ? 1 : 0;
}

void OpenPipeline::note_granted(OpenFile& file, const FilterDecision& decision, std::string_view unlocked,
                                Duration waited) {
  ++core_.counters.opens;
  ++(file.locked() ? core_.counters.locked : decision.selected ? core_.counters.unlocked : core_.counters.passed);
  if (log_enabled(LogLevel::kDebug)) file.command = command_of(file.opener);
  const Subject subject{core_, *file.inode, lock_mode_for_open(file.flags), file.opener, file.command};
  if (file.locked()) {
    log_lock(subject, waited);
  } else if (!decision.selected) {
    log_pass(subject, decision.reason);
  } else {
    log_unlocked(subject, unlocked, waited);
  }
}

void OpenPipeline::answer(Task task, const std::shared_ptr<OpenFile>& file, const struct stat& st,
                          const UniqueFd& path) {
  note_granted(*file, task.decision, task.unlocked, task.waited);
  forget_attributes(*file->inode, st);
  fuse_file_info info{};
  prepare_info(task.request.native(), file, st, path, info);
  info.fh = core_.files.add(file);
  core_.releases->opened();
  if (task.request.opened(info) != 0) {
    core_.files.take(info.fh);
    core_.backing.close(nullptr, *file->inode);
  }
}

void OpenPipeline::stop() {
  core_.stopping = true;
  locks_.stop_waits();
  slow_.stop();
  if (core_.lock_file_waits != nullptr) core_.lock_file_waits->stop();
}

}  // namespace flockfs
