#pragma once

#include <deque>
#include <set>

#include "mirror/record_locks.h"

namespace flockfs {

// An open file description of ours that carries one owner's locks on one file. Constant.
struct RecordLocks::Descriptor {
  UniqueFd fd;
  bool readable = false;
  bool writable = false;
  OpenSlots::Slot slot;
};

// A file on which clients have asked for locks. Guarded by RecordLocks::mutex_ but for what is constant.
struct RecordLocks::File {
  const InodePtr inode;
  const bool apart;
  DescriptorPtr memory{};  // if apart: what the owners' descriptions are opened from; carries no lock itself
  std::unordered_map<std::uint64_t, OwnerPtr> owners{};
};

// Guarded by RecordLocks::mutex_ but for what is constant.
struct RecordLocks::Owner {
  const FilePtr file;
  const std::uint64_t id;
  pid_t process = 0;
  // Changed by whoever has the turn.
  DescriptorPtr descriptor{};     // none before the first lock
  RecordRanges ranges{};          // what the kernel holds on it
  std::uint64_t changes = 0;      // how often that has changed
  unsigned leaving = 0;           // threads that still wait on a descriptor that was replaced
  std::vector<TaskPtr> behind{};  // tried when those are back

  std::set<std::uint64_t> files{};  // through which it has asked; the owner is forgotten with the last of them
  unsigned pending = 0;             // what keeps it from being forgotten
  bool taken = false;               // somebody has the turn
  std::deque<Turn> turns{};         // the next ones
};

// One lock that is asked for.
struct RecordLocks::Task {
  const OwnerPtr owner;
  const Client client;
  const RecordLock lock;
  const bool wait;
  const Arrange arrange;
  const Done done;  // called once, by finish()

  // Of whoever has the task in hand.
  std::chrono::milliseconds pause{};

  // Guarded by RecordLocks::mutex_.
  WaitId id = 0;         // 0: does not wait yet
  int cancelled = 0;     // with which error
  bool blocked = false;  // in a thread, on this descriptor, at this point
  DescriptorPtr on{};
  std::shared_ptr<InterruptiblePoint> point{};
  std::uint64_t changes = 0;  // of the owner, when it began to wait
  TimePoint due{};            // of one that is polled
};

}  // namespace flockfs
