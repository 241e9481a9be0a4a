#include <fcntl.h>
#include <unistd.h>

#include <chrono>
#include <thread>
#include <utility>

#include "mirror/open_pipeline.h"
#include "mirror/release_desk.h"

namespace flockfs {
namespace {

// RELEASE comes some time after close(2) has returned (DESIGN 4.7), so a lock found taken may be one that its client
// has given back. As long it is looked again, this often; longer while the look for mappings is still to come.
constexpr auto kCloseLimit = std::chrono::milliseconds(20);
constexpr auto kLookLimit = std::chrono::seconds(1);
constexpr auto kCloseLook = std::chrono::milliseconds(1);

TimePoint now() { return SteadyClock().now(); }

}  // namespace

// The lock for a truncation by path. EAGAIN if somebody has it.
Status OpenPipeline::take_to_truncate(const InodePtr& inode, int fd, pid_t process, Hold& hold) {
  const auto own = core_.files.pick([&](const OpenFile& file) {
    return file.inode == inode && file.locked() && file.hold.mode() == LockMode::kExclusive && process != 0 &&
           file.opener == process;
  });
  if (!own.empty()) return {};
  LockRequest wanted;
  wanted.file = {inode->dev(), inode->ino()};
  wanted.mode = LockMode::kExclusive;
  wanted.owner = {process, 0};
  wanted.fd = UniqueFd(::fcntl(fd, F_DUPFD_CLOEXEC, 0));
  if (!wanted.fd) return errno_error();
  auto outcome = locks_.try_acquire(wanted);
  if (!outcome) return Error{EAGAIN, {}};
  if (outcome->end != WaitEnd::kGranted) return Error{outcome->error, {}};
  hold = std::move(outcome->hold);
  return {};
}

Status OpenPipeline::truncate(const InodePtr& inode, off_t size, const Caller& caller, pid_t process) {
  Hold hold;  // ends after the scope below: its end may finish other clients' opens
  auto fd = inode->open(O_WRONLY | O_NONBLOCK);
  if (!fd) return fd.error();
  if (decide(*inode).selected) {
    if (auto taken = take_to_truncate(inode, fd->get(), process, hold); !taken) return taken;
  }
  const CallerScope scope(caller, CallerScope::Rights::kPlain);
  if (!scope.ok()) return Error{EPERM, {}};
  if (::ftruncate(fd->get(), size) != 0) return errno_error();
  return {};
}

Status OpenPipeline::truncate_patiently(const InodePtr& inode, off_t size, const Caller& caller, pid_t process) {
  const TimePoint start = now();
  for (;;) {
    Status done = truncate(inode, size, caller, process);
    if (done || done.error().code != EAGAIN || core_.stopping) return done;
    const Duration waited = now() - start;
    if (waited > kCloseLimit && (waited > kLookLimit || !core_.releases->unlooked(*inode))) return done;
    std::this_thread::sleep_for(kCloseLook);
  }
}

}  // namespace flockfs
