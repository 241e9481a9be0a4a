#pragma once

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <utility>

namespace flockfs {

// Bounds the descriptors that clients' opens take up, so that some are left for everybody else's lookups when they run
// out. Thread-safe.
class OpenSlots {
 public:
  // The right to one descriptor, given back at its end.
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

  // `limit`: the process's limit of open descriptors.
  explicit OpenSlots(std::size_t limit) : most_(limit - std::min<std::size_t>(limit / 2, kReserve)) {}

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
  // For the daemon's own, one or two for each request at work, and the log.
  static constexpr std::size_t kReserve = 256;

  const std::size_t most_;
  std::atomic<std::size_t> taken_{0};
  std::atomic<bool> exhausted_{false};
};

}  // namespace flockfs
