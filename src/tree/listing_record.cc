#include "tree/listing_record.h"

#include "tree/time_stamp.h"

namespace flockfs {
namespace {

// Two changes that follow each other so fast may carry the same time: vfat counts in steps of two seconds.
constexpr std::int64_t kCoarsestNs = 4'000'000'000;

}  // namespace

ListingRecord::Answer ListingRecord::opened(const Inode& directory, const struct stat& st, std::int64_t now_ns) {
  if (directory.mount().remote) return Answer::kDrop;  // another machine's clock
  const std::int64_t changed = to_ns(st.st_ctim);
  MutexLock lock(mutex_);
  auto entry = kept_.find(&directory);
  if (entry == kept_.end()) {
    if (kept_.size() >= most_) std::erase_if(kept_, [](const auto& other) { return other.second.opens == 0; });
    if (kept_.size() >= most_) return Answer::kDrop;
    entry = kept_.try_emplace(&directory).first;
  }
  Kept& kept = entry->second;
  if (kept.generation != directory.generation()) kept = {directory.generation()};
  const bool same = kept.since_ns != 0 && changed == kept.ctime_ns && changed < kept.since_ns - kCoarsestNs;
  if (!same) {
    kept.since_ns = kept.opens == 0 ? now_ns : 0;
    kept.ctime_ns = changed;
  }
  ++kept.opens;
  return same ? Answer::kKeep : Answer::kFill;
}

void ListingRecord::closed(const Inode& directory) {
  MutexLock lock(mutex_);
  if (auto kept = kept_.find(&directory); kept != kept_.end()) --kept->second.opens;
}

}  // namespace flockfs
