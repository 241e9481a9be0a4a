#pragma once

#include <sys/types.h>

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <utility>

#include "base/result.h"
#include "run/shared_memory.h"

namespace flockfs {

// Tells whether a signal that the runner got was for the runner alone, or for COMMAND as well: by a third process of
// their process group, which gets what is sent to all (by the terminal, a shell's kill %1, or the stop of a service)
// and does nothing but count. It dies with the runner. Used by one thread.
class Witness {
 public:
  static Result<Witness> start();
  Witness(Witness&& other) noexcept
      : pid_(std::exchange(other.pid_, -1)), counts_(std::move(other.counts_)), known_(other.known_) {}
  Witness& operator=(Witness&&) = delete;
  ~Witness();

  // Whether it got the signal too that the runner got just now. Waits for some milliseconds for that.
  bool saw(int signal);

 private:
  static constexpr std::size_t kSignals = 65;
  using Counts = std::array<std::atomic<std::uint32_t>, kSignals>;

  Witness(pid_t pid, SharedMemory<Counts> counts) : pid_(pid), counts_(std::move(counts)) {}
  [[nodiscard]] bool is_pending(int signal) const;

  pid_t pid_;
  SharedMemory<Counts> counts_;
  std::array<std::uint32_t, kSignals> known_{};  // what it has counted and saw() has told
};

}  // namespace flockfs
