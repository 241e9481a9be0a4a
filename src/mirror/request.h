#pragma once

#include <cstdint>
#include <string_view>
#include <utility>

#include "mirror/fuse_api.h"
#include "tree/credentials.h"

namespace flockfs {

struct Core;

// The right and the duty to answer one request of the kernel, exactly once. Move-only; may be answered by any thread,
// one at a time, under no mutex. A request that is dropped unanswered is answered EIO, so that no client hangs on our
// mistake.
class Request {
 public:
  explicit Request(fuse_req_t request) : request_(request) {}
  Request(Request&& other) noexcept : request_(std::exchange(other.request_, nullptr)) {}
  Request& operator=(Request&&) = delete;
  ~Request() {
    if (request_ != nullptr) error(EIO);
  }

  // Whether the answer is still owed.
  [[nodiscard]] bool pending() const { return request_ != nullptr; }

  // For libfuse's calls that need the request but do not answer it.
  [[nodiscard]] fuse_req_t native() const { return request_; }

  [[nodiscard]] pid_t tid() const { return fuse_req_ctx(request_)->pid; }
  [[nodiscard]] uid_t uid() const { return fuse_req_ctx(request_)->uid; }
  [[nodiscard]] Caller caller() const {
    const fuse_ctx* context = fuse_req_ctx(request_);
    return Caller{context->uid, context->gid, context->umask, {}};
  }

  // The caller as the maker of something with this mode: with the supplementary groups where they decide, which is
  // whether a set-group-id bit may stay on what is made in a directory that hands down its group.
  [[nodiscard]] Caller maker(mode_t mode) const;

  // The caller as the maker of something about which the kernel has not been asked, so that their own rights decide:
  // with all supplementary groups, and the umask, which not every request brings along. Reads /proc/TID/status.
  [[nodiscard]] Caller maker_unasked() const;

  // Has interrupt(core, id) called when the kernel sends INTERRUPT, until the request is answered or this is taken
  // back; under libfuse's request mutex, so it never waits. libfuse hands back a pointer: the id goes in its place, so
  // that a late call meets nothing that has ended.
  template <typename Interrupt>
  void on_interrupt(std::uint64_t id, Interrupt /*captures nothing*/) const {
    fuse_req_interrupt_func(
        request_,
        [](fuse_req_t interrupted, void* data) {
          Interrupt{}(*static_cast<Core*>(fuse_req_userdata(interrupted)), reinterpret_cast<std::uintptr_t>(data));
        },
        reinterpret_cast<void*>(static_cast<std::uintptr_t>(id)));
  }
  void not_on_interrupt() const { fuse_req_interrupt_func(request_, nullptr, nullptr); }

  // Each answers. A result other than 0 means that the kernel did not take the answer (ENOENT: the request is gone).
  int error(int code) { return fuse_reply_err(take(), code); }
  int ok() { return fuse_reply_err(take(), 0); }
  void none() { fuse_reply_none(take()); }
  int entry(const fuse_entry_param& entry) { return fuse_reply_entry(take(), &entry); }
  int created(const fuse_entry_param& entry, const fuse_file_info& info) {
    return fuse_reply_create(take(), &entry, &info);
  }
  int attributes(const struct stat& st, double timeout) { return fuse_reply_attr(take(), &st, timeout); }
  int opened(const fuse_file_info& info) { return fuse_reply_open(take(), &info); }
  int link_target(const char* target) { return fuse_reply_readlink(take(), target); }
  int written(std::size_t count) { return fuse_reply_write(take(), count); }
  int buffer(const char* bytes, std::size_t size) { return fuse_reply_buf(take(), bytes, size); }
  int xattr_size(std::size_t size) { return fuse_reply_xattr(take(), size); }
  int file_systems(const struct statvfs& st) { return fuse_reply_statfs(take(), &st); }
  int lock(const struct flock& lock) { return fuse_reply_lock(take(), &lock); }
  int controlled(const void* bytes, std::size_t size) { return fuse_reply_ioctl(take(), 0, bytes, size); }
  int position(off_t offset) { return fuse_reply_lseek(take(), offset); }

 private:
  void add_groups(Caller& made_by) const;
  fuse_req_t take() { return std::exchange(request_, nullptr); }
  fuse_req_t request_;
};

}  // namespace flockfs
