// Fairness towards those outside the mirror. flock(2) lets readers pass a waiting writer, so overlapping clients of
// ours would keep somebody outside waiting for ever. When somebody is let in to a file that has long been in use
// without a gap, the keeper looks whether anybody outside waits for it; then the file yields (YieldPhase).

#include <algorithm>
#include <utility>

#include "lock/wait_room.h"

namespace flockfs {

namespace {

// Reading the list of all locks takes its time (foreign_locks.h); not more than a quarter of the keeper's.
constexpr int kRestPerReading = 3;

}  // namespace

void WaitRoom::note_use(const FileId& file, LockRecord& record, TimePoint now) {
  if (!record.wants_check(now, table_.times)) return;
  record.check_requested();
  unchecked_.push_back(file);
  wake_keeper(next_check_);
}

void WaitRoom::check_fairness() {
  std::vector<FileId> files;
  {
    MutexLock lock(mutex_);
    files = std::exchange(unchecked_, {});
  }
  for (const FileId& file : files) learn_device(file);
  const TimePoint begin = clock_.now();
  const std::unordered_set<FileId, FileIdHash> waited_for = files_waited_for_outside();
  MutexLock lock(mutex_);
  const TimePoint now = clock_.now();
  next_check_ = now + std::max(table_.times.between_checks, (now - begin) * kRestPerReading);
  for (const FileId& file : files) {
    LockRecord* record = table_.find(file);
    if (record == nullptr) continue;
    record->checked(now, table_.times, waited_for.contains(listed(file)));
    if (record->yield() != YieldPhase::kNone) attend(file, record->yield_until());
  }
}

std::unordered_set<FileId, FileIdHash> WaitRoom::files_waited_for_outside() {
  std::unordered_set<FileId, FileIdHash> files;
  (void)foreign_.for_each([this, &files](const ForeignLock& lock) {
    if (lock.waits && locker_.minds(lock.kind)) files.insert(lock.file);
  });
  return files;
}

// As which file the list of locks shows it, as far as is known.
FileId WaitRoom::listed(const FileId& file) const {
  const auto device = listed_devices_.find(file.dev);
  return {device == listed_devices_.end() ? file.dev : device->second, file.ino};
}

// btrfs shows another device in the list of locks than stat(2) does, the same for all files of a subvolume; a lock of
// ours tells which. (Inode numbers of several subvolumes may then be equal: a file yields in vain, no more.)
void WaitRoom::learn_device(const FileId& file) {
  Holder holder;
  {
    MutexLock lock(mutex_);
    if (listed_devices_.contains(file.dev)) return;
    const LockRecord* record = table_.find(file);
    const Holder* oldest = record == nullptr ? nullptr : record->oldest_holder();
    if (oldest == nullptr) return;
    holder = *oldest;
  }
  const std::optional<FileId> listed = foreign_.listed_as(holder.fd);
  if (!listed || listed->ino != file.ino) return;
  MutexLock lock(mutex_);
  // If that holder has gone meanwhile, its descriptor may have been another file's when we looked.
  const LockRecord* record = table_.find(file);
  if (record != nullptr && record->holds(holder.id)) listed_devices_.emplace(file.dev, listed->dev);
}

}  // namespace flockfs
