#include <fcntl.h>
#include <unistd.h>

#include <chrono>
#include <thread>
#include <utility>

#include "base/blocking_pool.h"
#include "lock/signal_probe.h"
#include "mirror/clients.h"
#include "mirror/open_pipeline.h"
#include "mirror/release_desk.h"

namespace flockfs {
namespace {

// RELEASE comes some time after close(2) has returned (DESIGN 4.7), so a lock found taken may be one that its client
// has given back. As long it is looked again, this often; longer while the look for mappings is still to come.
constexpr auto kCloseLimit = std::chrono::milliseconds(20);
constexpr auto kLookLimit = std::chrono::seconds(1);
constexpr auto kCloseLook = std::chrono::milliseconds(1);
// How long a holder outside is waited for: the kernel keeps others from writing meanwhile.
constexpr auto kOutsideLimit = std::chrono::seconds(5);
constexpr auto kOutsideLook = std::chrono::milliseconds(10);

TimePoint now() { return SteadyClock().now(); }

}  // namespace

struct OpenPipeline::Truncation {
  std::shared_ptr<Request> request;
  InodePtr inode;
  off_t size;
  std::function<void(Status)> answer;
  Caller caller;
  pid_t tid;
  pid_t process;
  UniqueFd fd;
};

void OpenPipeline::truncate(std::shared_ptr<Request> request, const InodePtr& inode, off_t size,
                            std::function<void(Status)> answer) {
  auto truncation = std::make_shared<Truncation>();
  truncation->caller = request->caller();
  truncation->tid = request->tid();
  truncation->process = process_of(request->tid());
  truncation->inode = inode;
  truncation->size = size;
  if (!inode->mount().open_may_wait) {
    auto fd = inode->open(O_WRONLY | O_NONBLOCK);
    if (fd || fd.error().code != EWOULDBLOCK) {
      if (!fd) {
        answer(fd.error());
        return;
      }
      truncation->fd = *std::move(fd);
      Status done = try_truncate(*truncation);
      if (done || done.error().code != EAGAIN) {
        answer(std::move(done));
        return;
      }
    }
  }
  truncation->request = std::move(request);
  truncation->answer = std::move(answer);
  if (truncation->fd) {
    if (!core_.pool->run([this, truncation] { truncate_opened(truncation); })) truncation->answer(Error{EAGAIN, {}});
    return;
  }
  const auto arrange = [truncation](SlowOpens::Id id) { interrupt_open_by(truncation->request->native(), id); };
  slow_.open(
      inode, O_WRONLY, truncation->tid, arrange,
      [this, truncation](SlowOpens::Opened opened) {
        fuse_req_interrupt_func(truncation->request->native(), nullptr, nullptr);
        if (opened.error != 0) {
          truncation->answer(Error{opened.error, {}});
          return;
        }
        truncation->fd = std::move(opened.fd);
        truncate_opened(truncation);
      },
      now() + kOutsideLimit);
}

// In a thread that may sleep.
void OpenPipeline::truncate_opened(const std::shared_ptr<Truncation>& truncation) {
  truncation->answer(truncate_patiently(*truncation));
}

Status OpenPipeline::truncate_patiently(Truncation& truncation) {
  const TimePoint start = now();
  for (;;) {
    Status done = try_truncate(truncation);
    if (done || done.error().code != EAGAIN || core_.stopping) return done;
    const Duration waited = now() - start;
    if (waited > kOutsideLimit || in_use(*truncation.inode, waited)) return done;
    const bool interrupted = fuse_req_interrupted(truncation.request->native()) != 0;
    if (interrupted && core_.signals->must_end(truncation.tid)) return Error{EINTR, {}};
    std::this_thread::sleep_for(waited < kLookLimit ? kCloseLook : kOutsideLook);
  }
}

// EAGAIN if somebody has the lock; a process that has it itself, through this mirror, truncates under its own. ESTALE
// if the name leads to another file by now: truncate(2) then looks again, as open(2) does.
Status OpenPipeline::try_truncate(Truncation& truncation) {
  const Inode& inode = *truncation.inode;
  std::vector<std::shared_ptr<OpenFile>> own;  // kept until the truncation is done
  Hold hold;                                   // ends after the scope below: its end may finish other clients' opens
  if (decide(inode).selected) {
    own = core_.files.pick([&](const OpenFile& file) {
      return file.inode.get() == &inode && file.locked() && file.hold.mode() == LockMode::kExclusive &&
             truncation.process != 0 && file.opener == truncation.process;
    });
    if (own.empty()) {
      if (auto taken = take_lock(truncation.fd.get(), LockMode::kExclusive, truncation.process, hold); !taken)
        return taken;
    }
  }
  struct stat st {};
  if (::fstat(truncation.fd.get(), &st) != 0) return errno_error();
  if (!leads_here(truncation.tid, truncation.inode, LockMode::kExclusive, st)) return Error{ESTALE, {}};
  const CallerScope scope(truncation.caller, CallerScope::Rights::kPlain);
  if (!scope.ok()) return Error{EPERM, {}};
  if (::ftruncate(truncation.fd.get(), truncation.size) != 0) return errno_error();
  return {};
}

// Whether clients of the mirror have the file, or want it, after that long.
bool OpenPipeline::in_use(const Inode& inode, Duration waited) const {
  if (waiting_.any(inode)) return true;
  if (waited <= kCloseLimit) return false;
  if (core_.releases->unlooked(inode)) return waited > kLookLimit;
  const auto open = core_.files.pick([&](const OpenFile& file) { return file.inode.get() == &inode; });
  return !open.empty() || core_.releases->keeps(inode);
}

}  // namespace flockfs
