#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <utility>
#include <vector>

#include "base/mutex.h"

namespace flockfs {

// Hands out the numbers (fuse_file_info::fh) under which the kernel knows what it has open. Thread-safe. Numbers grow,
// so iteration is in the order of opening.
template <typename T>
class Registry {
 public:
  // The numbers that it gives out are greater than `above`: two registries may share what the kernel tells apart by
  // number only.
  explicit Registry(std::uint64_t above = 0) : last_(above) {}

  std::uint64_t add(std::shared_ptr<T> item) {
    MutexLock lock(mutex_);
    items_.emplace_hint(items_.end(), ++last_, std::move(item));
    return last_;
  }

  // Null for a number that is not open.
  [[nodiscard]] std::shared_ptr<T> get(std::uint64_t number) const {
    MutexLock lock(mutex_);
    auto entry = items_.find(number);
    return entry == items_.end() ? nullptr : entry->second;
  }

  std::shared_ptr<T> take(std::uint64_t number) {
    MutexLock lock(mutex_);
    auto node = items_.extract(number);
    return node.empty() ? nullptr : std::move(node.mapped());
  }

  [[nodiscard]] std::size_t size() const {
    MutexLock lock(mutex_);
    return items_.size();
  }

  // Copies of those that `wanted` picks, oldest first. `wanted` is called under the mutex.
  template <typename Wanted>
  [[nodiscard]] std::vector<std::shared_ptr<T>> pick(Wanted wanted) const {
    std::vector<std::shared_ptr<T>> picked;
    MutexLock lock(mutex_);
    for (const auto& [number, item] : items_) {
      if (wanted(*item)) picked.push_back(item);
    }
    return picked;
  }

  // Calls visit(item) under the mutex for the next `most`, oldest first, whose numbers are greater than `after`, which
  // becomes that of the last one; false if there were none.
  template <typename Visit>
  bool visit_next(std::uint64_t& after, std::size_t most, Visit visit) const {
    MutexLock lock(mutex_);
    auto next = items_.upper_bound(after);
    const bool any = next != items_.end();
    for (; next != items_.end() && most > 0; ++next, --most) {
      after = next->first;
      visit(std::as_const(*next->second));
    }
    return any;
  }

  // Takes all out, oldest first.
  [[nodiscard]] std::vector<std::shared_ptr<T>> take_all() {
    std::vector<std::shared_ptr<T>> all;
    MutexLock lock(mutex_);
    for (auto& [number, item] : items_) all.push_back(std::move(item));
    items_.clear();
    return all;
  }

 private:
  mutable Mutex mutex_;
  std::map<std::uint64_t, std::shared_ptr<T>> items_ GUARDED_BY(mutex_);
  std::uint64_t last_ GUARDED_BY(mutex_);
};

}  // namespace flockfs
