// Lock files in git's way (lock=...+lockfile), as one step of an open between its lock and the rest: all is held, or
// nothing. While it waits for somebody else's lock file the lock itself is given back, and the open begins anew when
// the lock file has gone.

#include <utility>

#include "base/log.h"
#include "mirror/clients.h"
#include "mirror/events.h"
#include "mirror/lock_file_waits.h"
#include "mirror/lock_files.h"
#include "mirror/open_task.h"
#include "mirror/wait_watcher.h"

namespace flockfs {
// REQUIRES: the lock is held by `file`. False: the open has been answered, or waits.
bool OpenPipeline::take_lock_files(Task& task, std::shared_ptr<OpenFile>& file) {
  if (core_.lock_files == nullptr || task.mode() != LockMode::kExclusive) return true;
  auto names = core_.inodes.names(*task.inode);
  auto taken = core_.lock_files->take(names, task.request.maker_unasked(), CallerScope::Rights::kPlainMaker);
  if (taken) {
    file->lock_files = *std::move(taken);
    if (task.waited_for_lock_file) task.waited = now() - task.started;
    return true;
  }
  file.reset();  // the lock first: nobody waits for us while we wait or answer
  if (taken.error().code != EEXIST) {
    log_error("lockfile", core_.inodes.path(*task.inode), taken.error());
    deny(task.request, taken.error().code);
  } else if (tries_once(task)) {
    timed_out(std::move(task));
  } else {
    wait_for_lock_file(std::move(task), std::move(names), taken.error().context);
  }
  return false;
}

void OpenPipeline::wait_for_lock_file(Task task, std::vector<Inode::Name> names, const std::string& path) {
  if (!std::exchange(task.waited_for_lock_file, true)) {
    ++core_.counters.waited;
    log_wait_for_lock_file(task.subject(core_), path);
  }
  task.parked = true;
  const TimePoint begun = now();
  LockFileWaits::Wanted wanted;
  wanted.names = std::move(names);
  wanted.tid = task.tid;
  wanted.deadline = deadline_of(task);
  wanted.long_at = task.started + kLongWait > begun ? task.started + kLongWait : TimePoint::max();
  wanted.backoff = task.backoff;
  wanted.path = path;
  wanted.process = task.process;
  wanted.since = task.started;
  const InodePtr inode = task.inode;
  auto shared = std::make_shared<Task>(std::move(task));
  const auto arrange = [shared](LockFileWaits::Id id) {
    shared->request.on_interrupt(id, [](Core& core, std::uint64_t wait) { core.lock_file_waits->interrupt(wait); });
  };
  const auto on_long = [this, inode, mode = shared->mode(), process = shared->process, started = shared->started,
                        path] {
    log_long_wait_for_lock_file({core_, *inode, mode, process}, path, now() - started);
  };
  waiting_.add(*inode);
  const auto watched = std::make_shared<WatchedWait>(core_);
  watched->began(shared->subject(core_), path);
  const auto done = [this, shared, inode, begun, watched](LockFileWaits::End end, LockFileBackoff backoff) {
    waiting_.remove(*inode);
    watched->ended(now() - begun);
    shared->request.not_on_interrupt();
    core_.counters.wait_ended(now() - begun);
    shared->backoff = backoff;
    lock_file_wait_ended(std::move(*shared), end);
  };
  core_.lock_file_waits->wait(std::move(wanted), arrange, done, on_long);
}

void OpenPipeline::lock_file_wait_ended(Task task, LockFileWaits::End end) {
  switch (end) {
    case LockFileWaits::End::kFree:
      open_now(std::move(task));
      return;
    case LockFileWaits::End::kTimedOut:
      timed_out(std::move(task));
      return;
    case LockFileWaits::End::kInterrupted:
      ++core_.counters.interrupted;
      log_interrupted(task.subject(core_), now() - task.started);
      task.request.error(EINTR);
      return;
    case LockFileWaits::End::kStopped:
      task.request.error(ENOTCONN);
      return;
  }
}

bool OpenPipeline::wants_lock_file(const Hold& hold) const {
  return core_.lock_files != nullptr && hold.valid() && hold.mode() == LockMode::kExclusive;
}

void OpenPipeline::lock_file_refused(const Inode& parent, const char* name, pid_t process, const Error& error) {
  const std::string path = core_.inodes.path_in(parent, name);
  ++core_.counters.refused;
  if (error.code != EAGAIN) {
    log_error("lockfile", path, error);
    return;
  }
  ++core_.counters.timeouts;
  if (!log_enabled(LogLevel::kInfo)) return;
  log_write(LogLevel::kInfo, LogLine("timeout")
                                 .quoted("path", LockFiles::name_for(path))
                                 .text("mode", to_string(LockMode::kExclusive))
                                 .ms("wait_ms", 0)
                                 .number("pid", process)
                                 .text("comm", command_of(process)));
}

// The lock file of a file that is being made, or whose name turned up: the kernel has let the caller make names in that
// directory. It cannot wait.
Status OpenPipeline::take_lock_file_of_new(const InodePtr& parent, const char* name, const Caller& caller,
                                           LockFileHold& hold) {
  auto taken = core_.lock_files->take({{parent, name}}, caller, CallerScope::Rights::kMaker);
  if (!taken) return taken.error().code == EEXIST ? Error{EAGAIN, {}} : taken.error();
  hold = *std::move(taken);
  return {};
}

// EAGAIN while somebody else's is there.
Status OpenPipeline::take_lock_files_for(const Inode& inode, const Caller& caller, LockFileHold& hold) {
  if (core_.lock_files == nullptr) return {};
  auto taken = core_.lock_files->take(core_.inodes.names(inode), caller, CallerScope::Rights::kPlainMaker);
  if (!taken) return taken.error().code == EEXIST ? Error{EAGAIN, {}} : taken.error();
  hold = *std::move(taken);
  return {};
}

}  // namespace flockfs
