#pragma once

#include <sys/types.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <unordered_map>
#include <vector>

#include "base/blocking_pool.h"
#include "base/clock.h"
#include "base/mutex.h"
#include "lock/record_locker.h"
#include "lock/record_ranges.h"
#include "mirror/open_slots.h"
#include "tree/inode.h"

namespace flockfs {

// Clients' own fcntl(2) record locks, POSIX and OFD, carried out on the source file. For each owner (the kernel's
// number of a process for POSIX locks, of an open file description for OFD locks) and file there is an open file
// description of ours, on which record locks are taken in its stead: the kernel does the rest, towards all others in
// the mirror and outside. Thread-safe; no caller ever waits for a lock.
//
// What one owner asks of one file is done one after the other (its turns), by whichever thread has it in hand; only
// waiting is outside them.
class RecordLocks {
 public:
  // Who asks.
  struct Client {
    InodePtr inode;
    std::uint64_t owner = 0;  // fuse_file_info::lock_owner
    std::uint64_t file = 0;   // fuse_file_info::fh
    int flags = 0;            // with which the client has the file open
    pid_t process = 0;        // 0: cannot be seen
    pid_t tid = 0;            // the thread
    // The mirror holds a record lock over the whole source file for each open, which keeps the outside away and would
    // be in the way of these: clients' locks on this file exclude one another only, on a file of memory.
    bool apart = false;
  };
  struct Conflict {
    int error = 0;
    RecordConflict found;
    bool ours = false;  // found.holder is a client of the mirror
  };
  using Done = std::function<void(int error)>;
  using WaitId = std::uint64_t;
  using Arrange = std::function<void(WaitId)>;

  struct Config {
    BlockingPool& pool;
    std::function<OpenSlots::Slot()> slot;  // a place for one more descriptor, or an empty one
    // Some thread is to call poll() soon. Called under no mutex of this, perhaps under libfuse's of a request.
    std::function<void()> wake;
  };

  explicit RecordLocks(Config config);
  // REQUIRES: stop() was called, the pool is idle, and nobody calls poll() any more.
  ~RecordLocks();
  RecordLocks(const RecordLocks&) = delete;
  RecordLocks& operator=(const RecordLocks&) = delete;

  // Sets or removes a lock, and calls `done` exactly once, from some thread and under no mutex: 0, EAGAIN if it is
  // somebody else's and `wait` is false, EINTR after interrupt(), ENOTCONN after stop(), ENOLCK without a descriptor,
  // EDEADLK for a POSIX lock as the kernel says it: its owner would wait for one who waits, by whatever others, for it.
  // If it has to wait, `arrange(id)` is called before that, by some thread, so that interrupt(id) can be arranged for.
  // With any error the owner has what it had before.
  void set(const Client& client, const RecordLock& lock, bool wait, Arrange arrange, Done done);

  // What is in the way of this lock. `fd`: the client's open file, for one who has no lock. The holder, if it is a
  // client of the mirror, is its process.
  [[nodiscard]] Conflict find(const Client& client, const RecordLock& lock, int fd) const;

  // A process has closed a descriptor of the file (FLUSH): its POSIX locks on it end. `done` as in set(), with 0.
  void flushed(const InodePtr& inode, std::uint64_t owner, const std::function<void()>& done);

  // An open file is no more (RELEASE): what was locked through it ends.
  void released(const InodePtr& inode, std::uint64_t file);

  // The kernel sent INTERRUPT. Never waits; may be called under a mutex of the caller.
  void interrupt(WaitId id);

  // Ends all waits with ENOTCONN, now and from now on.
  void stop();

  // Tries again for those that found no thread to wait in. When to come again, if at all.
  std::optional<TimePoint> poll();

  // Open file descriptions of ours.
  [[nodiscard]] std::size_t descriptors() const;

 private:
  struct Descriptor;
  struct File;
  struct Owner;
  struct Task;
  using DescriptorPtr = std::shared_ptr<Descriptor>;
  using FilePtr = std::shared_ptr<File>;
  using OwnerPtr = std::shared_ptr<Owner>;
  using TaskPtr = std::shared_ptr<Task>;
  using Turn = std::function<void()>;
  template <typename T>
  using Made = Result<std::shared_ptr<T>>;

  [[nodiscard]] OwnerPtr find_owner(const Inode& inode, std::uint64_t id) const REQUIRES(mutex_);
  OwnerPtr join(const Client& client) REQUIRES(mutex_);
  void leave(const OwnerPtr& owner) EXCLUDES(mutex_);
  void take_turn(const OwnerPtr& owner, Turn turn) EXCLUDES(mutex_);
  void take_turn_elsewhere(const OwnerPtr& owner, Turn turn) EXCLUDES(mutex_);

  // With the owner's turn.
  void attempt(const TaskPtr& task) EXCLUDES(mutex_);
  void granted(const TaskPtr& task) EXCLUDES(mutex_);
  void returned(const TaskPtr& task, int error) EXCLUDES(mutex_);
  void remove(Owner& owner, const std::vector<RecordLock>& locks, std::uint64_t file) EXCLUDES(mutex_);
  Made<Descriptor> descriptor_for(const TaskPtr& task) EXCLUDES(mutex_);
  Made<Descriptor> open_for(const Task& task) EXCLUDES(mutex_);
  Made<Descriptor> open_apart(File& file, OpenSlots::Slot slot) EXCLUDES(mutex_);
  int replace(const OwnerPtr& owner, const DescriptorPtr& old, const DescriptorPtr& fresh) EXCLUDES(mutex_);

  void start(const TaskPtr& task) EXCLUDES(mutex_);
  void wait_for(const TaskPtr& task, const DescriptorPtr& descriptor) EXCLUDES(mutex_);
  bool wait_in_thread(const TaskPtr& task) EXCLUDES(mutex_);
  void block(const TaskPtr& task) EXCLUDES(mutex_);
  bool deadlocks(const TaskPtr& task) EXCLUDES(mutex_);
  [[nodiscard]] std::vector<TaskPtr> circle_of(const TaskPtr& task) const REQUIRES(mutex_);
  void poll_later(const TaskPtr& task) EXCLUDES(mutex_);
  void finish(const TaskPtr& task, int error) EXCLUDES(mutex_);
  [[nodiscard]] pid_t holder_of(const Inode& inode, std::uint64_t except, const RecordLock& lock) const
      EXCLUDES(mutex_);

  const Config config_;
  mutable Mutex mutex_;
  std::unordered_map<const Inode*, FilePtr> files_ GUARDED_BY(mutex_);
  std::unordered_map<WaitId, TaskPtr> waits_ GUARDED_BY(mutex_);
  std::vector<TaskPtr> polled_ GUARDED_BY(mutex_);
  unsigned threads_ GUARDED_BY(mutex_) = 0;
  WaitId last_id_ GUARDED_BY(mutex_) = 0;
  bool stopped_ GUARDED_BY(mutex_) = false;
};

}  // namespace flockfs
