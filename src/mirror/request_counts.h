#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "base/log.h"

namespace flockfs {

// How many requests of each kind the kernel has sent. Thread-safe; each number is right, all together are not one
// moment.
class RequestCounts {
 public:
  // `opcode`: of fuse_in_header.
  void count(std::uint32_t opcode) {
    counts_[opcode < counts_.size() ? opcode : 0].fetch_add(1, std::memory_order_relaxed);
  }

  // Calls visit(name, number) for each kind that has come, by the kernel's names in lower case.
  template <typename Visit>
  void for_each(Visit visit) const {
    for (std::size_t opcode = 0; opcode < counts_.size(); ++opcode) {
      const std::uint64_t number = counts_[opcode].load(std::memory_order_relaxed);
      if (number != 0) visit(name_of(opcode), number);
    }
  }

  void add_to(LogLine& line) const;

 private:
  static constexpr std::size_t kKinds = 53;

  static std::string_view name_of(std::size_t opcode);

  std::array<std::atomic<std::uint64_t>, kKinds> counts_{};  // by opcode; 0, which is none: whatever has no name here
};

}  // namespace flockfs
