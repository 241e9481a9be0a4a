#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "base/processors.h"
#include "base/side_by_side.h"
#include "mirror/handlers.h"
#include "tree/listing_record.h"
#include "tree/time_stamp.h"

namespace flockfs {
namespace {

// The most that one READDIR answer carries, whatever is asked for.
constexpr std::size_t kMostBytes = 1 << 20;

// Packs entries into an answer until it is full.
class Listing : public DirStream::Visitor {
 public:
  Listing(fuse_req_t native, std::size_t size) : native_(native), bytes_(std::min(size, kMostBytes)) {}

  [[nodiscard]] const char* data() const { return bytes_.data(); }
  [[nodiscard]] std::size_t size() const { return used_; }

 protected:
  [[nodiscard]] fuse_req_t native() const { return native_; }
  char* free_space() { return bytes_.data() + used_; }
  [[nodiscard]] std::size_t free_bytes() const { return bytes_.size() - used_; }
  bool use(std::size_t needed) {
    if (needed > free_bytes()) return false;
    used_ += needed;
    return true;
  }

 private:
  fuse_req_t native_;
  std::vector<char> bytes_;
  std::size_t used_ = 0;
};

class PlainListing final : public Listing {
 public:
  PlainListing(const Core& core, const InodePtr& directory, fuse_req_t native, std::size_t size)
      : Listing(native, size), core_(core), directory_(directory) {}

  bool visit(const DirStream::Entry& entry) override {
    const std::string name(entry.name);
    struct stat st {};
    st.st_ino = core_.source->shown_ino(directory_->dev(), entry.ino);
    st.st_mode = static_cast<mode_t>(entry.type) << 12;  // DTTOIF
    return use(fuse_add_direntry(native(), free_space(), free_bytes(), name.c_str(), &st, entry.next));
  }

 private:
  const Core& core_;
  const InodePtr& directory_;
};

// So many entries are looked up by two threads: a client that lists a directory waits for all of them.
constexpr std::size_t kMany = 16;

class PlusListing final : public Listing {
 public:
  PlusListing(Core& core, const InodePtr& directory, fuse_req_t native, std::size_t size)
      : Listing(native, size), core_(core), directory_(directory), room_(free_bytes()) {}

  // The size of an entry depends on its name only.
  bool visit(const DirStream::Entry& entry) override {
    Shown shown;
    shown.name = entry.name;
    const char* name = shown.name.c_str();
    const std::size_t needed = fuse_add_direntry_plus(native(), nullptr, 0, name, &shown.param, entry.next);
    if (needed > room_) return false;
    room_ -= needed;
    shown.next = entry.next;
    shown.param.attr.st_ino = core_.source->shown_ino(directory_->dev(), entry.ino);
    shown.param.attr.st_mode = static_cast<mode_t>(entry.type) << 12;
    shown_.push_back(std::move(shown));
    return true;
  }

  // Looks up what was visited and packs it.
  void finish() {
    const auto look_at = [this](std::size_t i) { look(shown_[i]); };
    if (shown_.size() >= kMany && has_several_processors()) {
      side_by_side(*core_.pool, shown_.size(), look_at);
    } else {
      for (std::size_t i = 0; i < shown_.size(); ++i) look_at(i);
    }
    for (const Shown& shown : shown_) {
      use(fuse_add_direntry_plus(native(), free_space(), free_bytes(), shown.name.c_str(), &shown.param, shown.next));
    }
  }

  // The lookups that the kernel counts when it gets the answer.
  void forget_all() {
    for (const Shown& shown : shown_) {
      if (shown.inode) core_.inodes.forget(shown.inode, 1);
    }
  }

 private:
  struct Shown {
    std::string name;
    std::int64_t next = 0;
    fuse_entry_param param{};
    InodePtr inode;
  };

  // A name that has gone since is shown without an inode: the kernel will look it up itself. The kernel neither looks
  // up nor counts "." and "..".
  void look(Shown& shown) {
    if (shown.name == "." || shown.name == "..") return;
    const AttributeRecord::Moment before = core_.attributes.now();
    auto found = core_.inodes.lookup(directory_, shown.name.c_str());
    if (!found) return;
    tell(core_, before, *found->inode, found->st);
    shown.param = entry_of(core_, *found);
    shown.inode = found->inode;
  }

  Core& core_;
  const InodePtr& directory_;
  std::size_t room_;  // for what is not visited yet
  std::vector<Shown> shown_;
};

// A cached listing has only names in it, and each of them is looked up when its time is over: reading the directory
// again, attributes and all, is faster then.
constexpr auto kWorthCaching = std::chrono::seconds(10);

void cache_listing(Core& core, const Inode& inode, OpenDirectory& directory, fuse_file_info& info) {
  if (std::min(core.config.attr_timeout, core.config.entry_timeout) < kWorthCaching) return;
  // Among the file systems without file handles are those that do not say when a directory has changed (devpts).
  if (!inode.reopens()) return;
  const std::int64_t at = stamp_now();
  struct stat st {};
  if (directory.stream.fd() < 0 || ::fstat(directory.stream.fd(), &st) != 0) return;
  const ListingRecord::Answer answer = core.listings.opened(inode, st, at);
  directory.cached = answer != ListingRecord::Answer::kDrop;
  info.cache_readdir = directory.cached ? 1 : 0;
  info.keep_cache = answer == ListingRecord::Answer::kKeep ? 1 : 0;
}

void close_directory(Core& core, const Inode& inode, std::uint64_t number) {
  const auto directory = core.directories.take(number);
  if (directory && directory->cached) core.listings.closed(inode);
}

void opendir(fuse_req_t native, fuse_ino_t node, fuse_file_info* info) {
  serve(native, [&](Core& core, Request& request) {
    const InodePtr inode = core.inode(node);
    if (!inode->is_directory()) {
      request.error(ENOTDIR);
      return;
    }
    OpenSlots::Slot slot = core.take_slot();
    if (!slot) {
      request.error(EMFILE);
      return;
    }
    auto fd = inode->is_empty_mount() ? Result<UniqueFd>(UniqueFd{}) : inode->open(O_RDONLY | O_DIRECTORY);
    if (!fd) {
      request.error(fd.error().code);
      return;
    }
    const auto directory = std::make_shared<OpenDirectory>(std::move(slot), *std::move(fd));
    cache_listing(core, *inode, *directory, *info);
    info->fh = core.directories.add(directory);
    if (request.opened(*info) != 0) close_directory(core, *inode, info->fh);
  });
}

void releasedir(fuse_req_t native, fuse_ino_t node, fuse_file_info* info) {
  serve(native, [&](Core& core, Request& request) {
    close_directory(core, *core.inode(node), info->fh);
    request.ok();
  });
}

template <typename Kind>
Status list(DirStream& stream, off_t offset, Kind& listing) {
  if (stream.fd() < 0) return {};  // an empty mount
  return stream.read(offset, listing);
}

void readdir(fuse_req_t native, fuse_ino_t node, std::size_t size, off_t offset, fuse_file_info* info) {
  serve(native, [&](Core& core, Request& request) {
    const auto stream = core.directories.get(info->fh);
    const InodePtr inode = core.inode(node);
    PlainListing listing(core, inode, native, size);
    const Status done = stream ? list(stream->stream, offset, listing) : Status(Error{EBADF, {}});
    // What was collected before an error is shown; the error comes again with the next request.
    if (!done && listing.size() == 0) {
      request.error(done.error().code);
      return;
    }
    request.buffer(listing.data(), listing.size());
  });
}

void readdirplus(fuse_req_t native, fuse_ino_t node, std::size_t size, off_t offset, fuse_file_info* info) {
  serve(native, [&](Core& core, Request& request) {
    const auto stream = core.directories.get(info->fh);
    const InodePtr inode = core.inode(node);
    PlusListing listing(core, inode, native, size);
    const Status done = stream ? list(stream->stream, offset, listing) : Status(Error{EBADF, {}});
    listing.finish();
    if (!done && listing.size() == 0) {
      request.error(done.error().code);
      return;
    }
    if (request.buffer(listing.data(), listing.size()) != 0) listing.forget_all();
  });
}

void fsyncdir(fuse_req_t native, fuse_ino_t /*node*/, int datasync, fuse_file_info* info) {
  serve(native, [&](Core& core, Request& request) {
    const auto stream = core.directories.get(info->fh);
    if (!stream || stream->stream.fd() < 0) {
      request.error(stream ? 0 : EBADF);
      return;
    }
    const int failed = datasync != 0 ? ::fdatasync(stream->stream.fd()) : ::fsync(stream->stream.fd());
    request.error(failed == 0 ? 0 : errno);
  });
}

}  // namespace

void add_directory_handlers(fuse_lowlevel_ops& ops) {
  ops.opendir = opendir;
  ops.releasedir = releasedir;
  ops.readdir = readdir;
  ops.readdirplus = readdirplus;
  ops.fsyncdir = fsyncdir;
}

}  // namespace flockfs
