#include "mirror/record_locks.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "mirror/record_owner.h"

namespace flockfs {
namespace {

constexpr RecordLock kEverything{F_UNLCK, 0, 0};

bool may_write(int flags) { return (flags & O_ACCMODE) != O_RDONLY; }

}  // namespace

RecordLocks::RecordLocks(Config config) : config_(std::move(config)) {}

RecordLocks::~RecordLocks() {
  std::unordered_map<const Inode*, FilePtr> files;
  {
    MutexLock lock(mutex_);
    files.swap(files_);
  }
  for (const auto& [inode, file] : files) file->owners.clear();  // each refers to its file
}

std::size_t RecordLocks::descriptors() const {
  MutexLock lock(mutex_);
  std::size_t count = 0;
  for (const auto& [inode, file] : files_) {
    if (file->memory) ++count;
    for (const auto& [id, owner] : file->owners) count += owner->descriptor ? 1 : 0;
  }
  return count;
}

RecordLocks::OwnerPtr RecordLocks::find_owner(const Inode& inode, std::uint64_t id) const {
  const auto file = files_.find(&inode);
  if (file == files_.end()) return nullptr;
  const auto owner = file->second->owners.find(id);
  return owner == file->second->owners.end() ? nullptr : owner->second;
}

// The owner, made if it is new; until leave() it is not forgotten.
RecordLocks::OwnerPtr RecordLocks::join(const Client& client) {
  FilePtr& file = files_[client.inode.get()];
  if (!file) file = std::make_shared<File>(File{client.inode, client.apart});
  OwnerPtr& owner = file->owners[client.owner];
  if (!owner) owner = std::make_shared<Owner>(Owner{file, client.owner});
  owner->files.insert(client.file);
  if (client.process != 0) owner->process = client.process;
  ++owner->pending;
  return owner;
}

void RecordLocks::leave(const OwnerPtr& owner) {
  FilePtr last;  // closes its descriptors when the mutex is free
  MutexLock lock(mutex_);
  if (--owner->pending != 0 || !owner->files.empty()) return;
  File& file = *owner->file;
  file.owners.erase(owner->id);
  if (!file.owners.empty()) return;
  const auto entry = files_.find(file.inode.get());
  last = std::move(entry->second);
  files_.erase(entry);
  lock.unlock();
}

// Runs it when all turns before it have ended: now, or by the thread that has the turn.
void RecordLocks::take_turn(const OwnerPtr& owner, Turn turn) {
  {
    MutexLock lock(mutex_);
    if (owner->taken) {
      owner->turns.push_back(std::move(turn));
      return;
    }
    owner->taken = true;
  }
  for (;;) {
    turn();
    turn = nullptr;
    MutexLock lock(mutex_);
    if (owner->turns.empty()) {
      owner->taken = false;
      return;
    }
    turn = std::move(owner->turns.front());
    owner->turns.pop_front();
  }
}

// On a source that may take its time with any request, in a thread that may.
void RecordLocks::take_turn_elsewhere(const OwnerPtr& owner, Turn turn) {
  if (owner->file->inode->mount().open_may_wait && config_.pool.run([=, this] { take_turn(owner, turn); })) return;
  take_turn(owner, std::move(turn));
}

void RecordLocks::set(const Client& client, const RecordLock& lock, bool wait, Arrange arrange, Done done) {
  OwnerPtr owner;
  {
    MutexLock guard(mutex_);
    if (lock.type != F_UNLCK || find_owner(*client.inode, client.owner)) owner = join(client);
  }
  if (!owner) {  // nothing to remove
    done(0);
    return;
  }
  start(std::make_shared<Task>(Task{owner, client, lock, wait, std::move(arrange), std::move(done)}));
}

void RecordLocks::attempt(const TaskPtr& task) {
  const auto descriptor = descriptor_for(task);
  if (!descriptor) {
    finish(task, descriptor.error().code);
    return;
  }
  const int error = *descriptor ? try_record_lock((*descriptor)->fd.get(), task->lock) : 0;
  if (error == 0) {
    granted(task);
  } else if (error != EWOULDBLOCK) {
    finish(task, error);
  } else if (task->wait) {
    wait_for(task, *descriptor);
  } else {
    {
      // It may be a lock of this owner's own, on the descriptor it had before.
      MutexLock lock(mutex_);
      if (task->owner->leaving != 0) {
        task->owner->behind.push_back(task);
        return;
      }
    }
    finish(task, EAGAIN);
  }
}

void RecordLocks::granted(const TaskPtr& task) {
  {
    MutexLock lock(mutex_);
    task->owner->ranges.set(task->lock, task->client.file);
    ++task->owner->changes;
  }
  finish(task, 0);
}

void RecordLocks::finish(const TaskPtr& task, int error) {
  {
    MutexLock lock(mutex_);
    waits_.erase(task->id);
  }
  leave(task->owner);
  task->done(error);
}

void RecordLocks::remove(Owner& owner, const std::vector<RecordLock>& locks, std::uint64_t file) {
  DescriptorPtr descriptor;
  {
    MutexLock lock(mutex_);
    descriptor = owner.descriptor;
  }
  for (const RecordLock& taken : locks) {
    const RecordLock none{F_UNLCK, taken.start, taken.length};
    if (descriptor) (void)try_record_lock(descriptor->fd.get(), none);
    MutexLock lock(mutex_);
    owner.ranges.set(none, file);
    ++owner.changes;
  }
}

void RecordLocks::flushed(const InodePtr& inode, std::uint64_t owner, const std::function<void()>& done) {
  OwnerPtr closing;
  {
    MutexLock lock(mutex_);
    closing = find_owner(*inode, owner);
    if (closing) ++closing->pending;
  }
  if (!closing) {
    done();
    return;
  }
  take_turn_elsewhere(closing, [this, closing, done] {
    remove(*closing, {kEverything}, 0);
    {
      MutexLock lock(mutex_);
      if (closing->pending == 1) closing->files.clear();  // nobody else is at it: it can be forgotten
    }
    leave(closing);
    done();
  });
}

void RecordLocks::released(const InodePtr& inode, std::uint64_t file) {
  std::vector<OwnerPtr> owners;
  {
    MutexLock lock(mutex_);
    const auto entry = files_.find(inode.get());
    if (entry == files_.end()) return;
    for (const auto& [id, owner] : entry->second->owners) {
      if (owner->files.erase(file) == 0) continue;
      ++owner->pending;
      owners.push_back(owner);
    }
  }
  for (const OwnerPtr& owner : owners) {
    take_turn_elsewhere(owner, [this, owner, file] {
      std::vector<RecordLock> taken;
      {
        MutexLock lock(mutex_);
        taken = owner->ranges.taken_through(file);
      }
      remove(*owner, taken, file);
      leave(owner);
    });
  }
}

RecordLocks::Conflict RecordLocks::find(const Client& client, const RecordLock& lock, int fd) const {
  DescriptorPtr descriptor;
  bool apart = client.apart;
  {
    MutexLock guard(mutex_);
    const auto file = files_.find(client.inode.get());
    const OwnerPtr owner = find_owner(*client.inode, client.owner);
    if (file != files_.end()) apart = file->second->apart;
    if (owner) descriptor = owner->descriptor;
    if (!descriptor && apart && file != files_.end()) descriptor = file->second->memory;
  }
  Conflict conflict;
  if (!descriptor && apart) return conflict;  // nobody has asked for any
  conflict.error = find_record_lock(descriptor ? descriptor->fd.get() : fd, lock, conflict.found);
  if (conflict.error == 0 && lock.type != F_UNLCK && conflict.found.lock.type != F_UNLCK && conflict.found.holder < 0) {
    if (const pid_t holder = holder_of(*client.inode, client.owner, conflict.found.lock)) {
      conflict.found.holder = holder;
      conflict.ours = true;
    }
  }
  return conflict;
}

// The process of the mirror that holds this lock; 0: none that can be seen.
pid_t RecordLocks::holder_of(const Inode& inode, std::uint64_t except, const RecordLock& lock) const {
  MutexLock guard(mutex_);
  const auto file = files_.find(&inode);
  if (file == files_.end()) return 0;
  for (const auto& [id, owner] : file->second->owners) {
    if (id != except && owner->process != 0 && owner->ranges.holds_start_of(lock)) return owner->process;
  }
  return 0;
}

// What the lock can be set on; null if there is nothing that could be removed.
RecordLocks::Made<RecordLocks::Descriptor> RecordLocks::descriptor_for(const TaskPtr& task) {
  const OwnerPtr& owner = task->owner;
  DescriptorPtr current;
  {
    MutexLock lock(mutex_);
    current = owner->descriptor;
  }
  const short type = task->lock.type;
  const Descriptor* const present = current.get();
  bool good = type == F_UNLCK;
  if (present != nullptr && (type == F_WRLCK ? present->writable : present->readable)) good = true;
  if (good) return current;
  auto fresh = open_for(*task);
  if (!fresh) return fresh;
  if (!current) {
    MutexLock lock(mutex_);
    owner->descriptor = *fresh;
  } else if (const int error = replace(owner, current, *fresh); error != 0) {
    return Error{error, {}};
  }
  return fresh;
}

// A writable descriptor keeps others from executing the file, so only a client that has the file open for writing
// itself gets one; and one for both, so that all locks of its owner are on one description.
RecordLocks::Made<RecordLocks::Descriptor> RecordLocks::open_for(const Task& task) {
  OpenSlots::Slot slot = config_.slot();
  if (!slot) return Error{ENOLCK, {}};
  File& file = *task.owner->file;
  if (file.apart) return open_apart(file, std::move(slot));
  auto made = std::make_shared<Descriptor>();
  const bool writes = may_write(task.client.flags);
  const int others = O_NONBLOCK | (task.client.flags & O_APPEND);  // O_APPEND: all that an append-only file allows
  auto fd = file.inode->open((writes ? O_RDWR : O_RDONLY) | others);
  made->readable = fd.ok();
  made->writable = writes;
  // As a user who may only write.
  if (!fd && (task.client.flags & O_ACCMODE) == O_WRONLY) fd = file.inode->open(O_WRONLY | others);
  if (!fd) return Error{ENOLCK, {}};
  made->fd = *std::move(fd);
  made->slot = std::move(slot);
  return made;
}

RecordLocks::Made<RecordLocks::Descriptor> RecordLocks::open_apart(File& file, OpenSlots::Slot slot) {
  DescriptorPtr memory;
  {
    MutexLock lock(mutex_);
    memory = file.memory;
  }
  if (!memory) {
    auto made = std::make_shared<Descriptor>();
    made->fd = UniqueFd(::memfd_create("flockfs-record-locks", MFD_CLOEXEC));
    made->slot = config_.slot();
    if (!made->fd || !made->slot) return Error{ENOLCK, {}};
    MutexLock lock(mutex_);
    if (!file.memory) file.memory = made;
    memory = file.memory;
  }
  auto own = std::make_shared<Descriptor>();
  own->fd = UniqueFd(::open(ProcFdPath(memory->fd.get()).c_str(), O_RDWR | O_CLOEXEC));
  if (!own->fd) return Error{ENOLCK, {}};
  own->readable = own->writable = true;
  own->slot = std::move(slot);
  return own;
}

// An owner that has read locks through a descriptor for reading now wants a write lock. First all is locked on the new
// descriptor too, which the old one's locks let nobody keep it from; so nobody gets in between.
int RecordLocks::replace(const OwnerPtr& owner, const DescriptorPtr& old, const DescriptorPtr& fresh) {
  std::vector<RecordLock> held;
  {
    MutexLock lock(mutex_);
    held = owner->ranges.all();
  }
  for (const RecordLock& taken : held) {
    if (try_record_lock(fresh->fd.get(), taken) != 0) return ENOLCK;
  }
  std::vector<std::shared_ptr<InterruptiblePoint>> points;
  {
    MutexLock lock(mutex_);
    owner->descriptor = fresh;
    for (const auto& [id, task] : waits_) {
      if (task->owner != owner || !task->blocked || task->on != old) continue;
      ++owner->leaving;
      points.push_back(task->point);
    }
  }
  (void)try_record_lock(old->fd.get(), kEverything);
  for (const auto& point : points) point->interrupt();
  return 0;
}

}  // namespace flockfs
