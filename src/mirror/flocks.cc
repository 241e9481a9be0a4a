#include "mirror/flocks.h"

#include <fcntl.h>
#include <sys/file.h>

#include <utility>

#include "mirror/clients.h"
#include "mirror/events.h"
#include "mirror/late_release.h"
#include "mirror/release_desk.h"

namespace flockfs {
namespace {

LockMode mode_of(int operation) { return (operation & LOCK_EX) != 0 ? LockMode::kExclusive : LockMode::kShared; }

}  // namespace

// A call that waits.
class Flocks::Parked final : public LockWaiter {
 public:
  using Arrange = void (*)(const Request& request, WaitId id);  // for an interrupt

  Parked(Flocks& flocks, Request request, std::shared_ptr<OpenFile> file, LockMode mode, Arrange arrange)
      : flocks_(flocks),
        file_(std::move(file)),
        subject_{flocks_.core_, *file_->inode, mode, process_of(request.tid())},
        arrange_(arrange),
        request_(std::move(request)) {}

  void on_parked(WaitId id) override { arrange_(request_, id); }
  void on_wait() override { log_wait(subject_); }

  void on_outcome(LockOutcome outcome) override {
    request_.not_on_interrupt();
    if (outcome.gave_up) flocks_.note_lapse(*file_);
    if (outcome.hold.valid()) {
      Hold before;
      MutexLock lock(file_->flock_mutex);
      before = std::exchange(file_->flocked, std::move(outcome.hold));
      lock.unlock();
    }
    request_.error(error_of(outcome));
  }

  void on_long_wait(Duration waited, const std::vector<Blocker>& blockers) override {
    log_long_wait(subject_, waited, blockers);
  }
  void on_possible_deadlock(const std::vector<pid_t>& processes) override { log_deadlock(subject_, processes, false); }
  [[nodiscard]] std::string path() const override { return subject_.core.inodes.path(subject_.inode); }

 private:
  static int error_of(const LockOutcome& outcome) {
    switch (outcome.end) {
      case WaitEnd::kGranted:
        return 0;
      case WaitEnd::kInterrupted:
        return EINTR;
      case WaitEnd::kStopped:
        return ENOTCONN;
      case WaitEnd::kFailed:
        return outcome.error;
      default:
        return EAGAIN;
    }
  }

  Flocks& flocks_;
  const std::shared_ptr<OpenFile> file_;
  const Subject subject_;
  const Arrange arrange_;
  Request request_;
};

void Flocks::call(Request request, std::shared_ptr<OpenFile> file, int operation) {
  const bool convertible = file->locked() && core_.config.lock != LockKind::kOfd;
  if (convertible) {
    on_top(std::move(request), std::move(file), operation);
  } else {
    alone(std::move(request), std::move(file), operation);
  }
}

void Flocks::on_top(Request request, std::shared_ptr<OpenFile> file, int operation) {
  if ((operation & LOCK_UN) != 0) {
    opens_.unlock_flock(file->hold);
    request.ok();
    return;
  }
  const LockMode mode = mode_of(operation);
  if ((operation & LOCK_NB) != 0) {
    try_on_top(std::move(request), file, mode);
    return;
  }
  core_.releases->hurry();
  const pid_t tid = request.tid();
  const Hold& hold = file->hold;
  const auto arrange = [](const Request& waiting, WaitId id) {
    waiting.on_interrupt(id, [](Core& core, std::uint64_t wait) { core.flocks->interrupt_on_top(wait); });
  };
  opens_.park_flock(hold, mode, process_of(tid), tid,
                    std::make_shared<Parked>(*this, std::move(request), std::move(file), mode, arrange));
}

// Calls attempt(last) until it returns true; with `last` it must. What was closed before the call does not count.
void Flocks::keep_trying(const InodePtr& inode, const InTheWay& in_the_way, const Attempt& attempt) {
  const bool only_outside = in_the_way().empty();
  if (attempt(only_outside)) return;
  const bool started = core_.pool->run([this, inode, in_the_way, attempt] {
    LateRelease late(core_, *inode);
    std::vector<Blocker> blockers;
    do {
      blockers = in_the_way();
      if (attempt(false)) return;
    } while (late.look_again(blockers, false));
    (void)attempt(true);
  });
  if (!started) (void)attempt(true);
}

void Flocks::try_on_top(Request request, const std::shared_ptr<OpenFile>& file, LockMode mode) {
  const auto in_the_way = [this, file, mode] { return opens_.flock_blockers(file->hold, mode); };
  auto answering = std::make_shared<Request>(std::move(request));
  const auto attempt = [this, answering, file, mode](bool last) {
    const FlockOutcome outcome = opens_.try_flock(file->hold, mode);
    if (outcome.lost) note_lapse(*file);
    if (outcome.error == EWOULDBLOCK && !outcome.lost && !last) return false;
    answering->error(outcome.error);
    return true;
  };
  keep_trying(file->inode, in_the_way, attempt);
}

// As flock(2) converts: what was held goes first.
void Flocks::alone(Request request, std::shared_ptr<OpenFile> file, int operation) {
  const LockMode mode = mode_of(operation);
  {
    Hold before;
    MutexLock lock(file->flock_mutex);
    if ((operation & LOCK_UN) == 0 && file->flocked.valid() && file->flocked.mode() == mode) {
      lock.unlock();
      request.ok();
      return;
    }
    before = std::move(file->flocked);
    lock.unlock();
  }
  if ((operation & LOCK_UN) != 0) {
    request.ok();
    return;
  }
  LockRequest wanted;
  wanted.file = {file->inode->dev(), file->inode->ino()};
  wanted.mode = mode;
  wanted.owner = {process_of(request.tid()), 0};
  wanted.tid = request.tid();
  wanted.alone = true;
  wanted.fd = UniqueFd(::fcntl(file->fd(), F_DUPFD_CLOEXEC, 0));
  if (!wanted.fd) {
    request.error(ENOLCK);
    return;
  }
  if ((operation & LOCK_NB) != 0) {
    auto trying = std::make_shared<std::pair<Request, LockRequest>>(std::move(request), std::move(wanted));
    const auto in_the_way = [this, id = trying->second.file, mode] { return others_.blockers(id, mode); };
    const auto attempt = [this, trying, file](bool last) {
      if (try_alone(trying->first, *file, trying->second)) return true;
      if (last) trying->first.error(EWOULDBLOCK);
      return last;
    };
    keep_trying(file->inode, in_the_way, attempt);
    return;
  }
  if (try_alone(request, *file, wanted)) return;
  core_.releases->hurry();
  const auto arrange = [](const Request& waiting, WaitId id) {
    waiting.on_interrupt(id, [](Core& core, std::uint64_t wait) { core.flocks->interrupt_alone(wait); });
  };
  others_.park(std::move(wanted), std::make_shared<Parked>(*this, std::move(request), std::move(file), mode, arrange));
}

// Answers if the lock can be had at once, or never.
bool Flocks::try_alone(Request& request, OpenFile& file, LockRequest& wanted) {
  auto outcome = others_.try_acquire(wanted);
  if (!outcome) return false;
  if (outcome->hold.valid()) {
    MutexLock lock(file.flock_mutex);
    std::swap(file.flocked, outcome->hold);
  }
  request.error(outcome->error);
  return true;
}

void Flocks::note_lapse(const OpenFile& file) const {
  ++core_.counters.lapsed;
  log_lapsed({core_, *file.inode, lock_mode_for_open(file.flags), file.opener}, "flock");
}

}  // namespace flockfs
