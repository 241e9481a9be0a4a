#include "mirror/look_around.h"

#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <string_view>
#include <utility>
#include <vector>

#include "mirror/lock_file_waits.h"
#include "mirror/release_desk.h"

namespace flockfs {
namespace {

// Some ten microseconds under the registry's mutex.
constexpr std::size_t kStep = 256;

std::string_view name_of(LockKind kind, bool lockfile) {
  constexpr std::array<std::pair<std::string_view, std::string_view>, 3> kNames{
      {{"flock", "flock+lockfile"}, {"ofd", "ofd+lockfile"}, {"flock+ofd", "flock+ofd+lockfile"}}};
  const auto& [plain, with_file] = kNames.at(kind == LockKind::kFlock ? 0 : kind == LockKind::kOfd ? 1 : 2);
  return lockfile ? with_file : plain;
}

// What is taken down of an open file while the registry's mutex is held. Not the file itself: whoever has the last
// reference gives the lock back.
struct Seen {
  InodePtr inode;
  std::uint64_t hold = 0;     // Hold::id() of the open's own lock; 0: none
  std::uint64_t flocked = 0;  // and of its client's flock(2), where that is another engine's
  bool lockfile = false;
  pid_t opener = 0;
  TimePoint since;
};

class Looker {
 public:
  Looker(const Core& core, LockEngine& opens, LockEngine* others, MirrorState& state)
      : core_(core), opens_(opens), others_(others), state_(state) {}

  void look() {
    // The files before the locks: one that has its lock no more by then, or not just now, is left out.
    take_down_files();
    LockSnapshot locks = opens_.snapshot();
    LockSnapshot flocks = others_ == nullptr ? LockSnapshot{} : others_->snapshot();
    now_ = now();
    for (const Seen& seen : seen_) {
      if (seen.hold != 0) tell_held(seen, seen.hold, locks, name_of(core_.config.lock, seen.lockfile));
      if (seen.flocked != 0) tell_held(seen, seen.flocked, others_ == nullptr ? locks : flocks, "flock");
    }
    tell_waiting(std::move(locks.waiting));
    tell_waiting(std::move(flocks.waiting));
    tell_waits_for_lock_files();
    auto& waiting = state_.waiting;
    std::ranges::stable_sort(waiting, std::ranges::greater{}, &WaitingState::waited);
    state_.all_waiting = waiting.size();
    if (waiting.size() > MirrorState::kMostListed) waiting.resize(MirrorState::kMostListed);
  }

 private:
  void take_down(const OpenFile& file) {
    Seen seen;
    seen.hold = file.hold.valid() ? file.hold.id() : 0;
    {
      MutexLock lock(file.flock_mutex);
      seen.flocked = file.flocked.valid() ? file.flocked.id() : 0;
    }
    if (seen.hold == 0 && seen.flocked == 0) return;
    seen.inode = file.inode;
    seen.lockfile = file.lock_files.valid();
    seen.opener = file.opener;
    seen.since = file.since;
    seen_.push_back(std::move(seen));
  }

  void take_down_files() {
    std::uint64_t after = 0;
    while (core_.files.visit_next(after, kStep, [this](const OpenFile& file) { take_down(file); })) {
    }
    core_.releases->visit_kept([this](const OpenFile& file) { take_down(file); });
  }

  // The mirror goes on using the last name of a file that is removed.
  [[nodiscard]] bool has_no_name(const Inode& inode) const {
    if (core_.inodes.names(inode).empty()) return true;
    if (inode.mount().open_may_wait) return false;  // so might this look at the source
    const auto object = inode.path_fd_at_hand();
    struct stat st {};
    return object && ::fstat(object->get(), &st) == 0 && st.st_nlink == 0;
  }

  void tell_held(const Seen& seen, std::uint64_t id, const LockSnapshot& locks, std::string_view name) {
    const auto lock = locks.held.find(id);
    if (lock == locks.held.end()) return;
    if (++state_.all_held > MirrorState::kMostListed) return;
    HeldState& held = state_.held.emplace_back();
    held.path = core_.inodes.path(*seen.inode);
    held.deleted = has_no_name(*seen.inode);
    held.mode = lock->second;
    held.lock = name;
    held.process = seen.opener;
    held.held = std::max(now_ - seen.since, Duration{});
    held.long_held = held.held >= core_.config.hold_warn;
  }

  void tell_waiting(std::vector<WaitingLock> waiting) {
    for (WaitingLock& lock : waiting) {
      state_.waiting.push_back({lock.waiter->path(), lock.mode, lock.process, lock.waited, lock.possible_deadlock,
                                std::move(lock.blocked_by)});
    }
  }

  void tell_waits_for_lock_files() {
    if (core_.lock_file_waits == nullptr) return;
    for (auto& wait : core_.lock_file_waits->waiting()) {
      state_.waiting.push_back({std::move(wait.path),
                                LockMode::kExclusive,
                                wait.process,
                                std::max(now_ - wait.since, Duration{}),
                                false,
                                {}});
    }
  }

  const Core& core_;
  LockEngine& opens_;
  LockEngine* const others_;
  MirrorState& state_;
  std::vector<Seen> seen_;
  TimePoint now_;
};

}  // namespace

void look_around(const Core& core, LockEngine& opens, LockEngine* others, MirrorState& state) {
  Looker(core, opens, others, state).look();
}

}  // namespace flockfs
