#pragma once

#include <sys/types.h>

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>

#include "base/clock.h"
#include "base/result.h"
#include "base/unique_fd.h"
#include "mirror/wait_watcher.h"

namespace flockfs {

// What a mirror's process tells the runner.
struct Message {
  enum class Kind : std::uint8_t { kReady, kFailed, kWaitBegan, kWaitEnded };

  Kind kind = Kind::kFailed;
  dev_t device = 0;             // kReady: of the mirror
  bool passes_through = false;  // kReady
  std::string text;             // kFailed: why
  WaitSeen wait;                // kWaitBegan; kWaitEnded: its number only
  Duration waited{};            // kWaitEnded
};

// A socket with two ends; each message arrives whole. The runner sees the end of the other process by it.
Result<std::pair<UniqueFd, UniqueFd>> make_channel();

// Sends. A message about a wait never blocks: it is lost if the runner has not listened for long (it may be stopped).
void send_message(int channel, const Message& message);

// The next message. nullopt: none now (EAGAIN), or `ended` is set because there will be none any more. Never blocks.
std::optional<Message> receive_message(int channel, bool& ended);

// Tells the runner of waits. Thread-safe.
class WaitReporter final : public WaitWatcher {
 public:
  explicit WaitReporter(int channel) : channel_(channel) {}
  void began(const WaitSeen& wait) override;
  void ended(std::uint64_t number, Duration waited) override;

 private:
  const int channel_;
};

}  // namespace flockfs
