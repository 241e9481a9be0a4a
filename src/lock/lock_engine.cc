#include "lock/lock_engine.h"

#include <cerrno>
#include <system_error>
#include <utility>

#include "lock/wait_room.h"

namespace flockfs {

Hold::Hold(Hold&& other) noexcept
    : engine_(std::exchange(other.engine_, nullptr)),
      file_(other.file_),
      id_(other.id_),
      mode_(other.mode_),
      fd_(std::move(other.fd_)) {}

Hold& Hold::operator=(Hold&& other) noexcept {
  if (this == &other) return *this;
  reset();
  engine_ = std::exchange(other.engine_, nullptr);
  file_ = other.file_;
  id_ = other.id_;
  mode_ = other.mode_;
  fd_ = std::move(other.fd_);
  return *this;
}

void Hold::reset() {
  if (LockEngine* engine = std::exchange(engine_, nullptr)) engine->release(file_, id_, std::move(fd_));
}

bool Hold::note_closed() const { return engine_ != nullptr && engine_->closed(file_, id_); }

Hold LockEngine::make_hold(const FileId& file, std::uint64_t id, LockMode mode, UniqueFd fd) {
  Hold hold;
  hold.engine_ = this;
  hold.file_ = file;
  hold.id_ = id;
  hold.mode_ = mode;
  hold.fd_ = std::move(fd);
  return hold;
}

std::unique_ptr<LockEngine> make_lock_engine(const LockEngineConfig& config) {
  try {
    return std::make_unique<WaitRoom>(config);
  } catch (const std::system_error& error) {  // std::thread's way to say EAGAIN
    errno = error.code().value();
    return nullptr;
  }
}

}  // namespace flockfs
