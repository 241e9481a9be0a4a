#include "mirror/release_desk.h"

#include <sys/prctl.h>

#include <algorithm>
#include <iterator>
#include <map>

#include "base/log.h"
#include "mirror/events.h"
#include "mirror/record_locks.h"

namespace flockfs {
namespace {

// How long after a look that found the file mapped the next one comes: soon at first, since many mappings are short.
constexpr auto kFirstPause = std::chrono::milliseconds(5);
constexpr auto kLongestPause = std::chrono::milliseconds(200);
// How long closed files are gathered for one look: so many times what it took to read the mappings for the last one,
// which bounds the part of a processor that goes there, whatever the processes have mapped. Locks are held for it.
constexpr int kGatherToRead = 24;
constexpr Duration kShortestGather = std::chrono::microseconds(500);
constexpr Duration kLongestGather = std::chrono::milliseconds(5);
// How often held locks are looked at, at most.
constexpr auto kHoldLook = std::chrono::seconds(1);

}  // namespace

Status ReleaseDesk::start(dev_t mirror) {
  mappings_ = std::make_unique<Mappings>(mirror);
  try {
    thread_ = std::thread([this] { run(); });
  } catch (const std::system_error& error) {
    return Error{error.code().value(), "cannot start a thread"};
  }
  return {};
}

void ReleaseDesk::stop() {
  {
    MutexLock lock(mutex_);
    stop_ = true;
    changed_.notify_one();
  }
  if (thread_.joinable()) thread_.join();
  std::vector<Kept> left;
  {
    MutexLock lock(mutex_);
    left.swap(queue_);
  }
  for (Kept& kept : left) end(std::move(kept.file));
  kept_ -= left.size();
}

void ReleaseDesk::submit(std::shared_ptr<OpenFile> file) {
  if (!file->passthrough || !file->locked() || !file->mappable()) {
    end(std::move(file));
    return;
  }
  const bool wanted = file->hold.note_closed();
  ++kept_;
  MutexLock lock(mutex_);
  queue_.push_back({std::move(file), TimePoint{}, kFirstPause, false});
  if (wanted) hurry_ = true;
  if (wanted || !gathering_) changed_.notify_one();
}

void ReleaseDesk::hurry_up() {
  MutexLock lock(mutex_);
  hurry_ = true;
  changed_.notify_one();
}

bool ReleaseDesk::unlooked(const Inode& inode) const {
  MutexLock lock(mutex_);
  return std::any_of(looking_.begin(), looking_.end(), [&](const InodePtr& at) { return at.get() == &inode; }) ||
         std::any_of(queue_.begin(), queue_.end(),
                     [&](const Kept& kept) { return !kept.looked && kept.file->inode.get() == &inode; });
}

bool ReleaseDesk::keeps(const Inode& inode) const {
  MutexLock lock(mutex_);
  return std::any_of(queue_.begin(), queue_.end(), [&](const Kept& kept) { return kept.file->inode.get() == &inode; });
}

void ReleaseDesk::end(std::shared_ptr<OpenFile> file) {
  const bool locked = file->locked();
  const Duration held = now() - file->since;
  const InodePtr inode = file->inode;
  const std::string command = file->command;
  const Subject subject{core_, *inode, lock_mode_for_open(file->flags), file->opener, command};
  file.reset();
  if (locked) log_unlock(subject, held);
}

void ReleaseDesk::run() {
  ::prctl(PR_SET_NAME, "flockfs-desk");
  TimePoint next_hold_look = now();
  std::optional<TimePoint> next_poll;
  std::vector<Kept> batch;
  for (;;) {
    batch.clear();
    {
      MutexLock lock(mutex_);
      if (stop_) return;
      wait_for_work(std::min(next_hold_look, next_poll.value_or(next_hold_look)));
      poll_ = false;
      hurry_ = false;
      gathering_ = false;
      const TimePoint at = now();
      auto due = std::partition(queue_.begin(), queue_.end(), [at](const Kept& kept) { return kept.look_at > at; });
      std::move(due, queue_.end(), std::back_inserter(batch));
      queue_.erase(due, queue_.end());
      for (const Kept& kept : batch) {
        if (!kept.looked) looking_.push_back(kept.file->inode);
      }
    }
    if (!batch.empty()) {
      look(batch);
      MutexLock lock(mutex_);
      gathering_ = !looking_.empty();
      looking_.clear();
    }
    next_poll = core_.records->poll();
    if (now() >= next_hold_look) {
      warn_of_long_holds();
      next_hold_look = now() + kHoldLook;
    }
  }
}

void ReleaseDesk::wake() {
  MutexLock lock(mutex_);
  changed_.notify_one();
}

void ReleaseDesk::poll_soon() {
  MutexLock lock(mutex_);
  poll_ = true;
  changed_.notify_one();
}

void ReleaseDesk::wait_for_work(TimePoint next_look) {
  if (poll_ || hurry_) return;
  if (gathering_) {
    changed_.wait_until(mutex_, now() + gather_);
    return;
  }
  if (queue_.empty()) {
    asleep_ = true;  // before the look at the files: whoever opens one after it sees the flag
    if (core_.files.size() == 0) {
      if (!stop_) changed_.wait(mutex_);
      asleep_ = false;
      return;
    }
    asleep_ = false;
  }
  TimePoint until = next_look;
  for (const Kept& kept : queue_) until = std::min(until, kept.look_at);
  if (until > now()) changed_.wait_until(mutex_, until);
}

// Ends those of the batch that are not mapped and puts the others back.
void ReleaseDesk::look(std::vector<Kept>& batch) {
  mappings_->begin(boot_time_ns());
  Duration reading{};
  std::map<pid_t, std::vector<Kept*>> by_process;
  // A file that another process closed may have been handed to one that is older than the open: as if its opener were
  // nobody.
  for (Kept& kept : batch) by_process[kept.file->passed_around ? 0 : kept.file->opener].push_back(&kept);
  for (auto& [process, files] : by_process) {
    std::int64_t first = INT64_MAX;
    for (const Kept* kept : files) first = std::min(first, kept->file->opened_at_ns);
    const TimePoint began = now();
    const auto mapped = mappings_->of(process, first);
    reading += now() - began;
    for (Kept* kept : files) {
      const ino_t shown = core_.source->shown_ino(kept->file->inode->dev(), kept->file->inode->ino());
      if (mapped && mapped->find(shown) == mapped->end()) {
        end(std::move(kept->file));
        --kept_;
        continue;
      }
      warn_if_long(*kept->file);
      const Duration pause = kept->pause;
      MutexLock lock(mutex_);
      queue_.push_back({std::move(kept->file), now() + pause, std::min<Duration>(pause * 2, kLongestPause), true});
    }
  }
  gather_ = std::clamp<Duration>(reading * kGatherToRead, kShortestGather, kLongestGather);
}

void ReleaseDesk::warn_of_long_holds() {
  const TimePoint old = now() - core_.config.hold_warn;
  for (const auto& file : core_.files.pick([old](const OpenFile& open) { return open.locked() && open.since < old; })) {
    warn_if_long(*file);
  }
}

void ReleaseDesk::warn_if_long(OpenFile& file) {
  const Duration held = now() - file.since;
  if (held < core_.config.hold_warn || file.warned.exchange(true)) return;
  log_held({core_, *file.inode, lock_mode_for_open(file.flags), file.opener, file.command}, held);
}

}  // namespace flockfs
