#pragma once

#include <atomic>
#include <cstddef>
#include <utility>

namespace flockfs {

// Bounds the descriptors that clients' opens take up, so that some are left for everybody else's lookups when they run
// out. Thread-safe.
class OpenSlots {
 public:
  // The right to one open, given back at its end.
  class Slot {
   public:
    Slot() = default;
    explicit Slot(OpenSlots* owner) : owner_(owner) {}
    Slot(Slot&& other) noexcept : owner_(std::exchange(other.owner_, nullptr)) {}
    Slot& operator=(Slot&& other) noexcept {
      std::swap(owner_, other.owner_);
      return *this;
    }
    ~Slot() {
      if (owner_ != nullptr) --owner_->taken_;
    }
    explicit operator bool() const { return owner_ != nullptr; }

   private:
    OpenSlots* owner_ = nullptr;
  };

  // `descriptors`: what opens may take up in all. `for_each`: what one open takes up.
  OpenSlots(std::size_t descriptors, std::size_t for_each) : most_(descriptors / for_each) {}

  // Empty if there is none left.
  Slot take() {
    if (++taken_ <= most_) {
      exhausted_.store(false, std::memory_order_relaxed);
      return Slot(this);
    }
    --taken_;
    return {};
  }

  // Whether it is news that there is none left.
  bool newly_exhausted() { return !exhausted_.exchange(true); }

  [[nodiscard]] std::size_t most() const { return most_; }

 private:
  const std::size_t most_;
  std::atomic<std::size_t> taken_{0};
  std::atomic<bool> exhausted_{false};
};

}  // namespace flockfs
