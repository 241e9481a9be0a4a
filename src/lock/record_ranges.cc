#include "lock/record_ranges.h"

#include <iterator>
#include <limits>

namespace flockfs {
namespace {

constexpr off_t kEnd = std::numeric_limits<off_t>::max();

off_t last_of(const RecordLock& lock) {
  return lock.length == 0 || lock.length > kEnd - lock.start ? kEnd : lock.start + lock.length - 1;
}

RecordLock made_of(off_t first, off_t last, short type) { return {type, first, last == kEnd ? 0 : last - first + 1}; }

}  // namespace

void RecordRanges::set(const RecordLock& lock, std::uint64_t file) {
  const off_t last = last_of(lock);
  cut(lock.start, last);
  if (lock.type == F_UNLCK) return;
  join_with_neighbours(ranges_.insert_or_assign(lock.start, Range{last, lock.type, file}).first);
}

// Takes these bytes out of whatever is there.
void RecordRanges::cut(off_t first, off_t last) {
  auto at = ranges_.upper_bound(first);
  if (at != ranges_.begin()) --at;
  while (at != ranges_.end() && at->first <= last) {
    const off_t begin = at->first;
    const Range range = at->second;
    if (range.last < first) {
      ++at;
      continue;
    }
    at = ranges_.erase(at);
    if (begin < first) ranges_.emplace(begin, Range{first - 1, range.type, range.file});
    if (range.last > last) ranges_.emplace(last + 1, range);
  }
}

void RecordRanges::join_with_neighbours(std::map<off_t, Range>::iterator at) {
  const auto alike = [](const Range& one, const Range& other) {
    return one.type == other.type && one.file == other.file;
  };
  const auto next = std::next(at);
  if (next != ranges_.end() && at->second.last + 1 == next->first && alike(at->second, next->second)) {
    at->second.last = next->second.last;
    ranges_.erase(next);
  }
  if (at == ranges_.begin()) return;
  const auto before = std::prev(at);
  if (before->second.last + 1 == at->first && alike(before->second, at->second)) {
    before->second.last = at->second.last;
    ranges_.erase(at);
  }
}

std::vector<RecordLock> RecordRanges::all() const {
  std::vector<RecordLock> locks;
  for (const auto& [first, range] : ranges_) locks.push_back(made_of(first, range.last, range.type));
  return locks;
}

std::vector<RecordLock> RecordRanges::taken_through(std::uint64_t file) const {
  std::vector<RecordLock> locks;
  for (const auto& [first, range] : ranges_) {
    if (range.file == file) locks.push_back(made_of(first, range.last, range.type));
  }
  return locks;
}

bool RecordRanges::excludes(const RecordLock& lock) const {
  auto at = ranges_.upper_bound(lock.start);
  if (at != ranges_.begin()) --at;
  for (; at != ranges_.end() && at->first <= last_of(lock); ++at) {
    if (at->second.last >= lock.start && (at->second.type == F_WRLCK || lock.type == F_WRLCK)) return true;
  }
  return false;
}

bool RecordRanges::holds_start_of(const RecordLock& lock) const {
  auto at = ranges_.upper_bound(lock.start);
  if (at == ranges_.begin()) return false;
  --at;
  return at->second.type == lock.type && at->second.last >= lock.start;
}

}  // namespace flockfs
