#include "tree/kept_fds.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <iterator>

#include "tree/inode.h"
#include "tree/source.h"

namespace flockfs {
namespace {

// Names of directories that the source moved about behind the kernel's back can form a loop.
constexpr std::size_t kMaxDepth = 1 << 16;

}  // namespace

std::optional<PathFd> KeptFds::at_hand(const Inode& inode) {
  std::list<Recent> given_up;
  MutexLock lock(mutex_);
  auto entry = entries_.find(&inode);
  if (entry == entries_.end()) return std::nullopt;
  Shared fd = entry->second.fd.lock();
  if (fd) {
    make_newest(inode, entry->second, fd, given_up);
  } else {
    entries_.erase(entry);
  }
  lock.unlock();
  if (!fd) return std::nullopt;
  return PathFd(std::move(fd));
}

void KeptFds::make_newest(const Inode& inode, Entry& entry, Shared fd, std::list<Recent>& given_up) {
  if (entry.place != recent_.end()) {
    recent_.splice(recent_.begin(), recent_, entry.place);
    return;
  }
  recent_.push_front({&inode, std::move(fd)});
  entry.place = recent_.begin();
  if (recent_.size() <= most_) return;
  const auto oldest = std::prev(recent_.end());
  given_up.splice(given_up.begin(), recent_, oldest);
  auto gone = entries_.find(oldest->inode);
  // Nobody else can get at it meanwhile but through the entry.
  if (oldest->fd.use_count() == 1) {
    entries_.erase(gone);
  } else {
    gone->second.place = recent_.end();
  }
}

Result<PathFd> KeptFds::get(const Inode& inode) {
  if (auto fd = at_hand(inode)) return *std::move(fd);
  auto fd = look_for(inode);
  if (!fd) return fd.error();
  return keep(inode, *std::move(fd));
}

PathFd KeptFds::keep(const Inode& inode, UniqueFd fd) {
  auto fresh = std::make_shared<const UniqueFd>(std::move(fd));
  std::list<Recent> given_up;  // closed after the mutex, as is what is not needed
  MutexLock lock(mutex_);
  auto [entry, inserted] = entries_.try_emplace(&inode, Entry{fresh, recent_.end()});
  Shared kept = entry->second.fd.lock();
  if (!kept) entry->second.fd = kept = fresh;
  make_newest(inode, entry->second, kept, given_up);
  lock.unlock();
  return PathFd(std::move(kept));
}

void KeptFds::drop(const Inode& inode) {
  std::list<Recent> dropped;
  MutexLock lock(mutex_);
  auto entry = entries_.find(&inode);
  if (entry == entries_.end()) return;
  if (entry->second.place != recent_.end()) dropped.splice(dropped.begin(), recent_, entry->second.place);
  entries_.erase(entry);
  lock.unlock();
}

// Down from the nearest directory on the way up that is at hand.
Result<UniqueFd> KeptFds::look_for(const Inode& inode) {
  auto names = names_of_(inode);
  std::reverse(names.begin(), names.end());
  for (const InodeName& name : names) {
    std::vector<InodeName> way{name};
    for (;;) {
      const Inode& directory = *way.back().parent;
      if (auto start = directory.path_fd_at_hand()) {
        std::reverse(way.begin(), way.end());
        auto fd = walk(way, *start);
        if (fd && inode.is(fd->get())) return fd;
        break;
      }
      auto above = names_of_(directory);
      if (above.empty() || way.size() >= kMaxDepth) break;
      way.push_back(std::move(above.back()));
    }
  }
  return Error{ESTALE, {}};
}

Result<UniqueFd> KeptFds::walk(const std::vector<InodeName>& way, const PathFd& start) const {
  UniqueFd at;
  for (const InodeName& step : way) {
    UniqueFd next(::openat(at ? at.get() : start.get(), step.name.c_str(), O_PATH | O_NOFOLLOW | O_CLOEXEC));
    if (!next) return errno_error();
    auto below = source_.below_mirror(std::move(next));
    if (!below) return below.error();
    at = *std::move(below);
  }
  return at;
}

std::optional<PathFd> KeptFds::last_directory(const Inode& inode) {
  MutexLock lock(mutex_);
  const auto found = std::find_if(last_.begin(), last_.end(), [&inode](const Directory& directory) {
    return directory.inode == &inode && directory.generation == inode.generation();
  });
  if (found == last_.end()) return std::nullopt;
  std::rotate(last_.begin(), found, std::next(found));
  return PathFd(last_.front().fd);
}

PathFd KeptFds::keep_last_directory(const Inode& inode, UniqueFd fd) {
  auto shared = std::make_shared<const UniqueFd>(std::move(fd));
  Shared before = shared;  // closed outside the mutex
  MutexLock lock(mutex_);
  std::rotate(last_.begin(), std::prev(last_.end()), last_.end());
  Directory& newest = last_.front();
  newest.inode = &inode;
  newest.generation = inode.generation();
  std::swap(newest.fd, before);
  return PathFd(std::move(shared));
}

}  // namespace flockfs
