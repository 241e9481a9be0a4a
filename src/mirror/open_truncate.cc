#include <fcntl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <chrono>
#include <memory>
#include <optional>
#include <thread>
#include <utility>

#include "base/blocking_pool.h"
#include "base/mutex.h"
#include "lock/signal_probe.h"
#include "mirror/clients.h"
#include "mirror/events.h"
#include "mirror/late_release.h"
#include "mirror/lock_probe.h"
#include "mirror/open_pipeline.h"
#include "mirror/open_task.h"
#include "mirror/release_desk.h"
#include "mirror/workers.h"

namespace flockfs {
namespace {

// Instead of late_release.h's limit, while the look for mappings is still to come.
constexpr auto kLookLimit = std::chrono::seconds(1);
// So long the fewest looks are made, if they are not slow themselves.
constexpr auto kBusyLimit = std::chrono::milliseconds(300);
// How long a holder outside is waited for: the kernel keeps others from writing meanwhile.
constexpr auto kOutsideLimit = std::chrono::seconds(5);
constexpr auto kOutsideLook = std::chrono::milliseconds(10);
constexpr auto kBetweenJoins = std::chrono::milliseconds(100);
// How long the lock is kept for a client that does not come to run after its answer.
constexpr auto kTakingInLimit = std::chrono::seconds(1);
constexpr auto kTakingInLook = std::chrono::microseconds(200);

}  // namespace

struct OpenPipeline::Truncation {
  std::shared_ptr<Request> request;
  InodePtr inode;
  off_t size;
  std::function<void(Status)> answer;
  Caller caller;
  pid_t tid;
  pid_t process;
  TimePoint started;
  FilterDecision decision;
  std::optional<Retries::Second> second;  // after an ESTALE
  UniqueFd fd;                            // the file for this truncation alone, once it is open
  bool waiting = false;                   // the log has been told
  Hold hold;                              // until the client has taken the answer in
  LockFileHold lock_files;
  TimePoint locked;
  TimePoint next_join;

  [[nodiscard]] Subject subject(const Core& core) const { return {core, *inode, LockMode::kExclusive, process}; }
};

void OpenPipeline::truncate(std::shared_ptr<Request> request, const InodePtr& inode, off_t size,
                            std::function<void(Status)> answer) {
  auto truncation = std::make_shared<Truncation>();
  truncation->caller = core_.lock_files != nullptr ? request->maker_unasked() : request->caller();
  truncation->tid = request->tid();
  truncation->process = process_of(request->tid());
  truncation->inode = inode;
  truncation->size = size;
  truncation->started = now();
  truncation->decision = decide(*inode);
  truncation->second = second_try(truncation->tid, *inode, LockMode::kExclusive);
  truncation->request = std::move(request);
  truncation->answer = std::move(answer);
  truncating_.add(*inode);
  Status done = try_truncate(*truncation, MayWait::kNo);
  const bool patiently = !done && done.error().code == EAGAIN && core_.pool->run([this, truncation] {
    answer_truncation(truncation, truncate_patiently(*truncation));
  });
  if (!patiently) answer_truncation(truncation, std::move(done));
}

void OpenPipeline::answer_truncation(const std::shared_ptr<Truncation>& truncation, Status done) {
  if (!done && done.error().code == EAGAIN) ++core_.counters.refused;
  const AnsweredCall call(truncation->tid, SYS_truncate);
  std::exchange(truncation->answer, nullptr)(std::move(done));
  truncation->request.reset();
  if (!core_.pool->run([this, truncation, call] { let_go(*truncation, call); })) {
    const AnsweredCall unknown(0, SYS_truncate);
    let_go(*truncation, unknown);
  }
}

// From the request until the client's thread has run again, which on a busy machine may be long after the answer, the
// kernel takes no size of the inode from any other answer (FUSE_I_SIZE_UNSTABLE in fs/fuse/dir.c, fuse_do_setattr()),
// and then notes the one of this answer. Whoever opened the file meanwhile would be shown a wrong size. So opens are
// not answered until then, and the lock of a truncation is kept as long.
void OpenPipeline::let_go(Truncation& truncation, const AnsweredCall& call) {
  const TimePoint limit = now() + kTakingInLimit;
  while (!call.taken_in() && now() < limit && !core_.stopping) std::this_thread::sleep_for(kTakingInLook);
  truncating_.remove(*truncation.inode);
  truncation.lock_files.reset();
  if (!truncation.hold.valid()) return;
  truncation.hold.reset();
  log_unlock(truncation.subject(core_), now() - truncation.locked);
}

// In a thread that may sleep; a truncation that waits gives way to an open.
void OpenPipeline::finish_after_truncation(Task task, std::shared_ptr<OpenFile> file) {
  struct Opening {
    Task task;
    std::shared_ptr<OpenFile> file;
  };
  auto opening = std::make_shared<Opening>(Opening{std::move(task), std::move(file)});
  const InodePtr inode = opening->task.inode;
  waiting_.add(*inode);
  const bool started = core_.pool->run([this, opening, inode] {
    const TimePoint limit = now() + 2 * kTakingInLimit;
    while (truncating_.any(*inode) && now() < limit && !core_.stopping) std::this_thread::sleep_for(kTakingInLook);
    waiting_.remove(*inode);
    finish_now(std::move(opening->task), std::move(opening->file));
  });
  if (started) return;
  waiting_.remove(*inode);
  finish_now(std::move(opening->task), std::move(opening->file));
}

// In a thread that may sleep.
Status OpenPipeline::truncate_patiently(Truncation& truncation) {
  (void)core_.workers->fence(kLookLimit);
  core_.releases->hurry();
  for (int looks = 1;; ++looks) {
    Status done = try_truncate(truncation, MayWait::kYes);
    if (done || done.error().code != EAGAIN || core_.stopping) return done;
    const Duration waited = now() - truncation.started;
    if (waited > kOutsideLimit || in_use(*truncation.inode, waited, looks)) {
      log_timeout(truncation.subject(core_), waited);
      return done;
    }
    say_waiting(truncation);
    const bool interrupted = fuse_req_interrupted(truncation.request->native()) != 0;
    if (interrupted && core_.signals->must_end(truncation.tid)) {
      log_interrupted(truncation.subject(core_), waited);
      return Error{EINTR, {}};
    }
    std::this_thread::sleep_for(waited < kLookLimit ? kCloseLook : kOutsideLook);
  }
}

void OpenPipeline::say_waiting(Truncation& truncation) const {
  if (!std::exchange(truncation.waiting, true)) log_wait(truncation.subject(core_));
}

// EAGAIN if somebody has the lock; a process that has it itself, through this mirror, truncates under its own, which is
// seen where this may wait. ESTALE if the name leads to another file by now: truncate(2) then looks again, as open(2)
// does.
Status OpenPipeline::try_truncate(Truncation& truncation, MayWait may_wait) {
  Hold hold;
  LockFileHold lock_files;
  if (auto opened = open_for(truncation, may_wait); !opened) return opened;
  if (truncation.decision.selected) {
    core_.lock_support->meet(truncation.inode->mount());
    // Each attempt may drop the shared lock of the process for a moment (FileLocker::upgrade()).
    const bool joins = may_wait == MayWait::kYes && now() >= truncation.next_join;
    const auto joining = joins ? Joining::kYes : Joining::kNo;
    if (joins) truncation.next_join = now() + kBetweenJoins;
    if (auto taken =
            take_lock(truncation.fd.get(), LockMode::kExclusive, truncation.process, hold, Origin::kFound, joining);
        !taken)
      return taken;
    if (hold.valid()) {
      if (auto taken = take_lock_files_for(*truncation.inode, truncation.caller, lock_files); !taken) return taken;
    }
    const Duration waited = now() - truncation.started;
    if (hold.valid()) {
      log_lock(truncation.subject(core_), waited);
    } else {
      log_unlocked(truncation.subject(core_), "unsupported", waited);
    }
  } else {
    log_pass(truncation.subject(core_), truncation.decision.reason);
  }
  truncation.locked = now();
  Status done = cut(truncation, truncation.fd.get());
  if (!hold.valid()) return done;
  if (done) {
    truncation.lock_files = std::move(lock_files);
    truncation.hold = std::move(hold);
  } else {
    lock_files.reset();
    hold.reset();
    log_unlock(truncation.subject(core_), now() - truncation.locked);
  }
  return done;
}

Status OpenPipeline::cut(const Truncation& truncation, int fd) {
  struct stat st {};
  if (::fstat(fd, &st) != 0) return errno_error();
  if (!truncation.second && !leads_here(truncation.tid, truncation.inode, st)) return Error{ESTALE, {}};
  const CallerScope scope(truncation.caller, CallerScope::Rights::kPlain);
  if (!scope.ok()) return Error{EPERM, {}};
  if (::ftruncate(fd, truncation.size) != 0) return errno_error();
  return {};
}

// Opens the file, if that has not been done. open(2) may wait for the holder of a lease, or for a source that is FUSE
// and waits for a lock itself: EAGAIN where it must not.
Status OpenPipeline::open_for(Truncation& truncation, MayWait may_wait) {
  if (truncation.fd) return {};
  const InodePtr& inode = truncation.inode;
  if (!inode->mount().open_may_wait) {
    auto fd = inode->open(O_WRONLY | O_NONBLOCK);
    if (fd) {
      truncation.fd = *std::move(fd);
      return {};
    }
    if (fd.error().code == ESTALE) retries_.remember(truncation.tid, inode, core_.inodes.names(*inode));
    if (fd.error().code != EWOULDBLOCK) return fd.error();
  }
  if (may_wait == MayWait::kNo) return Error{EAGAIN, {}};
  return open_slowly_for(truncation);
}

// Waits for an open(2) in another thread, and no longer than for a lock.
Status OpenPipeline::open_slowly_for(Truncation& truncation) {
  struct Opening {
    Mutex mutex;
    CondVar changed;
    std::optional<SlowOpens::Opened> result GUARDED_BY(mutex);
  };
  auto opening = std::make_shared<Opening>();
  SlowOpens::Id slow = 0;
  const auto arrange = [&](SlowOpens::Id id) {
    slow = id;
    interrupt_open_by(*truncation.request, id);
  };
  slow_.open(truncation.inode, O_WRONLY, truncation.tid, arrange, [opening](SlowOpens::Opened opened) {
    MutexLock lock(opening->mutex);
    opening->result = std::move(opened);
    opening->changed.notify_all();
  });
  MutexLock lock(opening->mutex);
  for (int looks = 1; !opening->result; ++looks) {
    opening->changed.wait_until(opening->mutex, now() + kOutsideLook);
    if (opening->result) break;
    const Duration waited = now() - truncation.started;
    lock.unlock();
    if (waited <= kOutsideLimit && !in_use(*truncation.inode, waited, looks)) {
      say_waiting(truncation);
    } else {
      slow_.give_up(slow);
    }
    lock.lock();
  }
  truncation.request->not_on_interrupt();
  truncation.fd = std::move(opening->result->fd);
  if (opening->result->error != 0) return Error{opening->result->error, {}};
  return {};
}

// Whether clients of the mirror have the file, or want it, after that long.
bool OpenPipeline::in_use(const Inode& inode, Duration waited, int looks) const {
  if (waiting_.any(inode)) return true;
  if (waited <= kCloseLimit || (looks <= kFewestLooks && waited <= kBusyLimit)) return false;
  if (core_.releases->unlooked(inode)) return waited > kLookLimit;
  const auto open = core_.files.pick([&](const OpenFile& file) { return file.inode.get() == &inode; });
  return !open.empty() || core_.releases->keeps(inode);
}

// The O_TRUNC of an open, and what the file is like afterwards. An errno, or 0.
int OpenPipeline::truncate_as_asked(const Task& task, int fd, struct stat& st) {
  if ((task.flags & O_TRUNC) == 0) return 0;
  const CallerScope scope(task.caller, CallerScope::Rights::kPlain);
  if (!scope.ok()) return EPERM;
  return ::ftruncate(fd, 0) != 0 || ::fstat(fd, &st) != 0 ? errno : 0;
}

}  // namespace flockfs
