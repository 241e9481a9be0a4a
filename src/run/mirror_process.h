#pragma once

#include <sys/types.h>

#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "base/log.h"
#include "base/result.h"
#include "base/unique_fd.h"
#include "mirror/counters.h"
#include "mirror/mirror_config.h"
#include "run/channel.h"
#include "run/shared_memory.h"
#include "tree/source.h"

namespace flockfs {

class CallerState;

// A process of its own, in the runner's namespaces but in a session of its own, that serves one mirror. It dies with
// the runner. Move-only; used by the runner's thread.
class MirrorProcess {
 public:
  // Forks it. `in_child` runs in it first, to give up what is the runner's. It mounts, and then says so by a message.
  static Result<MirrorProcess> start(const MirrorConfig& config, std::unique_ptr<Source> source, const LogConfig& log,
                                     const CallerState& caller, const std::function<void()>& in_child);

  [[nodiscard]] const std::string& source() const { return source_; }
  [[nodiscard]] pid_t pid() const { return pid_; }
  [[nodiscard]] const Counters& counters() const { return *counters_.get(); }
  [[nodiscard]] int channel() const { return channel_.get(); }  // readable: receive() has something

  // The next message, if there is one. Notes what kReady says.
  std::optional<Message> receive();
  [[nodiscard]] bool ended() const { return ended_; }  // the process, as far as the channel tells

  // Once it is ready.
  [[nodiscard]] dev_t device() const { return device_; }
  [[nodiscard]] bool passes_through() const { return passes_through_; }

  // How it ended: "was killed by signal 9", "ended with status 1". REQUIRES: ended().
  std::string death();

  void signal(int number);
  // It has ended, and neither well nor by our SIGKILL: it died by itself. Once death() has been asked for.
  [[nodiscard]] bool failed() const { return status_.value_or(0) != 0 && !killed_; }
  // Gives its process table entry back, if it has ended.
  bool reap();

 private:
  MirrorProcess(std::string source, SharedMemory<Counters> counters, UniqueFd channel, pid_t pid)
      : source_(std::move(source)), counters_(std::move(counters)), channel_(std::move(channel)), pid_(pid) {}

  std::string source_;
  SharedMemory<Counters> counters_;
  UniqueFd channel_;
  pid_t pid_;
  std::optional<int> status_;
  bool ended_ = false;
  bool killed_ = false;  // by us
  dev_t device_ = 0;
  bool passes_through_ = false;
};

}  // namespace flockfs
