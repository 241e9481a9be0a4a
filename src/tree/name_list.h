#pragma once

#include <algorithm>
#include <boost/smart_ptr/intrusive_ptr.hpp>
#include <cstddef>
#include <functional>
#include <iterator>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace flockfs {

class Inode;
void intrusive_ptr_add_ref(const Inode* inode) noexcept;
void intrusive_ptr_release(const Inode* inode) noexcept;
// Shares an inode; the last one ends it, which may close descriptors: under no mutex.
using InodePtr = boost::intrusive_ptr<Inode>;

// A name under which the kernel was told of an object.
struct InodeName {
  InodePtr parent;
  std::string name;
  friend bool operator==(const InodeName&, const InodeName&) = default;
};

// The names of one object. Nearly every object has one, so that one has its place in the inode itself. What is taken
// out goes to a list of the caller's: it may be the last to hold its parent. Not thread-safe.
class NameList {
 public:
  [[nodiscard]] bool empty() const { return newest_.parent == nullptr; }
  [[nodiscard]] std::size_t size() const { return (empty() ? 0 : 1) + (older_ ? older_->size() : 0); }
  // REQUIRES: not empty.
  [[nodiscard]] const InodeName& newest() const { return newest_; }

  [[nodiscard]] bool contains(const InodePtr& parent, std::string_view name) const {
    const Is is_it{parent.get(), name};
    return is_it(newest_) || (older_ && std::any_of(older_->begin(), older_->end(), is_it));
  }

  // Oldest first.
  [[nodiscard]] std::vector<InodeName> all() const {
    std::vector<InodeName> names;
    if (older_) names = *older_;
    if (!empty()) names.push_back(newest_);
    return names;
  }

  void add(const InodePtr& parent, std::string_view name) {
    if (!empty()) {
      if (!older_) older_ = std::make_unique<std::vector<InodeName>>();
      older_->push_back(std::move(newest_));
    }
    newest_ = {parent, std::string(name)};
  }

  void remove(const InodePtr& parent, std::string_view name, std::vector<InodeName>& removed) {
    const Is is_it{parent.get(), name};
    if (older_) {
      const auto gone = std::stable_partition(older_->begin(), older_->end(), std::not_fn(is_it));
      removed.insert(removed.end(), std::make_move_iterator(gone), std::make_move_iterator(older_->end()));
      older_->erase(gone, older_->end());
    }
    if (is_it(newest_)) remove_newest(removed);
  }

  void remove_oldest(std::vector<InodeName>& removed) {
    if (!older_ || older_->empty()) {
      if (!empty()) remove_newest(removed);
      return;
    }
    removed.push_back(std::move(older_->front()));
    older_->erase(older_->begin());
  }

  void remove_all(std::vector<InodeName>& removed) {
    while (!empty()) remove_newest(removed);
  }

  // REQUIRES: not empty.
  InodeName take_newest() {
    InodeName taken = std::exchange(newest_, {});
    if (older_ && !older_->empty()) {
      newest_ = std::move(older_->back());
      older_->pop_back();
    }
    return taken;
  }

 private:
  struct Is {
    const Inode* parent;
    std::string_view name;
    bool operator()(const InodeName& have) const { return have.parent.get() == parent && have.name == name; }
  };
  void remove_newest(std::vector<InodeName>& removed) { removed.push_back(take_newest()); }

  InodeName newest_;
  std::unique_ptr<std::vector<InodeName>> older_;
};

}  // namespace flockfs
