#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>
#include <thread>
#include <utility>
#include <vector>

#include "base/clock.h"
#include "base/mutex.h"
#include "mirror/core.h"
#include "mirror/mappings.h"

namespace flockfs {

// Ends open files whose RELEASE has come. Where the kernel passes I/O through, RELEASE comes at close(2) even if the
// file is still mapped (DESIGN 4.6), so one thread looks into /proc/PID/maps of the opener and its descendants first,
// one reading for all files that a process has closed meanwhile, and keeps the lock as long as it finds the file there.
// Such a reading costs more than an open: while closes follow one another it gathers them, for half a millisecond or
// some more where reading takes long, but not those that somebody wants. Thread-safe.
//
// The same thread tells of locks that are held for longer than hold_warn, and polls for those who wait for a record
// lock and found no thread to wait in.
class ReleaseDesk {
 public:
  // `core` outlives this.
  explicit ReleaseDesk(Core& core) : core_(core) {}
  // REQUIRES: no submit() any more. What is still kept is let go.
  ~ReleaseDesk() { stop(); }

  // Starts the thread. `mirror` is the mounted mirror's device.
  Status start(dev_t mirror);
  void stop();

  // Ends a file now: gives its lock back and says so in the log.
  void end(std::shared_ptr<OpenFile> file);

  // Takes over a file after its RELEASE and ends it, at once or when its last mapping ends.
  void submit(std::shared_ptr<OpenFile> file);

  // Somebody wants a lock and found it taken: what is closed already is to be looked at now. Costs next to nothing.
  void hurry() {
    if (kept_ > 0) hurry_up();
  }

  // A file was opened: there is a lock to keep an eye on. Costs next to nothing.
  void opened() {
    if (asleep_.load(std::memory_order_seq_cst)) wake();
  }

  // RecordLocks::poll() has to be called soon. Never waits.
  void poll_soon();

  // Whether a file of this inode was submitted whose mappings have not been looked at yet.
  [[nodiscard]] bool unlooked(const Inode& inode) const;

  // Whether a file of this inode is kept for its mappings.
  [[nodiscard]] bool keeps(const Inode& inode) const;

  // Calls visit(file) under the mutex for those that are kept for their mappings, but the ones that are just looked at.
  template <typename Visit>
  void visit_kept(Visit visit) const {
    MutexLock lock(mutex_);
    for (const Kept& kept : queue_) {
      if (kept.looked) visit(std::as_const(*kept.file));
    }
  }

  // Files kept for their mappings or not looked at yet.
  [[nodiscard]] std::size_t kept() const { return kept_; }

 private:
  struct Kept {
    std::shared_ptr<OpenFile> file;
    TimePoint look_at;
    Duration pause{};
    bool looked = false;
  };

  void run();
  void wake();
  void hurry_up();
  void wait_for_work(TimePoint next_look) REQUIRES(mutex_);
  void look(std::vector<Kept>& batch);
  void warn_of_long_holds();
  void warn_if_long(OpenFile& file);

  Core& core_;
  std::unique_ptr<Mappings> mappings_;  // of the thread alone
  std::thread thread_;
  Duration gather_{};  // of the thread alone: how long it gathers from now on

  mutable Mutex mutex_;
  CondVar changed_;
  std::vector<Kept> queue_ GUARDED_BY(mutex_);
  std::vector<InodePtr> looking_ GUARDED_BY(mutex_);  // of files that the thread looks at for the first time
  bool stop_ GUARDED_BY(mutex_) = false;
  bool poll_ GUARDED_BY(mutex_) = false;
  bool hurry_ GUARDED_BY(mutex_) = false;
  bool gathering_ GUARDED_BY(mutex_) = false;  // the thread comes back soon by itself
  std::atomic<std::size_t> kept_{0};           // in queue_, or in the hands of the thread
  std::atomic<bool> asleep_{false};            // nothing was open and nothing queued: the thread waits without a timer
};

}  // namespace flockfs
