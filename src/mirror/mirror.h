#pragma once

#include <sys/types.h>

#include <memory>

#include "base/result.h"
#include "mirror/mirror_config.h"
#include "mirror/mirror_state.h"
#include "tree/source.h"

namespace flockfs {

struct Counters;
class WaitWatcher;

// What a process that mounts more than one mirror, or watches them from outside, brings along.
struct MirrorHost {
  std::unique_ptr<Source> source;  // null: opened as the configuration says
  Counters* counters = nullptr;    // where to count; null: nobody else looks. Outlives the mirror
  WaitWatcher* watcher = nullptr;  // told of opens that wait; may be null. Outlives the mirror
};

// How a configuration opens its source.
[[nodiscard]] SourceOptions source_options(const MirrorConfig& config);

// One mounted mirror. Used by one thread (main), which calls mount(), then serve(), then lets it go; but for state().
class Mirror {
 public:
  // Opens the source, mounts, answers the kernel's INIT and starts the threads: when it returns, the mirror is usable.
  // On an error nothing is left mounted. REQUIRES: SIGTERM, SIGINT and SIGHUP are blocked in the caller, and no thread
  // but the log's runs; the log is open.
  static Result<std::unique_ptr<Mirror>> mount(const MirrorConfig& config, MirrorHost host = {});

  virtual ~Mirror() = default;

  // Serves until the mirror is unmounted (by whatever way) or a SIGTERM, SIGINT or SIGHUP has stopped it: waits end,
  // the mount is detached, open files are served for config.stop_timeout, then the connection ends.
  virtual Status serve() = 0;

  // Under which stat(2) and mountinfo show the mounted mirror.
  [[nodiscard]] virtual dev_t device() const = 0;

  // What it is doing. Any thread, from mount() until the mirror is let go, but one at a time and under no mutex; stalls
  // nobody, and may take some 10 ms itself.
  [[nodiscard]] virtual MirrorState state() = 0;

  // Whether the kernel does the I/O of open files itself.
  [[nodiscard]] virtual bool passes_through() const = 0;
};

}  // namespace flockfs
