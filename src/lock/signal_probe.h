#pragma once

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string_view>

namespace flockfs {

// A thread's signals as /proc/TID/status shows them: bit n-1 is signal n.
struct SignalSets {
  std::uint64_t thread_pending = 0;   // SigPnd
  std::uint64_t process_pending = 0;  // ShdPnd
  std::uint64_t blocked = 0;          // SigBlk
  std::uint64_t ignored = 0;          // SigIgn
  std::uint64_t caught = 0;           // SigCgt
};

// Collects SignalSets from the lines of /proc/TID/status, which may come in pieces. Not synchronised.
class SignalSetsParser {
 public:
  // One whole line, without its newline. Lines that say nothing of interest are skipped.
  void line(std::string_view text);
  // All five sets have been seen.
  [[nodiscard]] bool complete() const { return seen_ == kAll; }
  // "State:" says zombie or dead.
  [[nodiscard]] bool gone() const { return gone_; }
  [[nodiscard]] const SignalSets& sets() const { return sets_; }

 private:
  static constexpr unsigned kAll = 31;
  SignalSets sets_;
  unsigned seen_ = 0;
  bool gone_ = false;
};

// The whole text at once; nullopt if a set is missing or is no number.
[[nodiscard]] std::optional<SignalSets> parse_signal_sets(std::string_view status_text);

// Whether a pending signal that is not blocked runs a handler or ends the process: the client's open(2) must then end.
// Not so for ignored signals and those that by default do nothing, stop or continue: waking a thread for them is the
// kernel's own affair (FUSE sends INTERRUPT all the same; DESIGN 4.3).
[[nodiscard]] bool ends_a_wait(const SignalSets& sets);

// Looks at a client thread after the kernel sent INTERRUPT for its request. Thread-safe. Reads /proc: not for FUSE
// workers.
class SignalProbe {
 public:
  virtual ~SignalProbe() = default;
  // True as well if the thread is gone or cannot be seen (tid 0).
  virtual bool must_end(pid_t tid) = 0;
};

class ProcSignalProbe final : public SignalProbe {
 public:
  bool must_end(pid_t tid) override;
};

}  // namespace flockfs
