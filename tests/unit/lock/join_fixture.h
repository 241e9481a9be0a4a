#pragma once

#include <functional>
#include <memory>
#include <utility>

#include "lock/wait_room_fixture.h"

namespace flockfs::test {

// Requests of processes that may share locks.
class JoinTest : public WaitRoomTest {
 protected:
  static constexpr FileId kOther{1, 43};

  LockRequest request_of(pid_t process, LockMode mode, const FileId& file = kFile, pid_t tid = 0) {
    LockRequest wanted = request(mode);
    wanted.file = file;
    if (file == kOther) wanted.fd = some_fd("/dev/zero");
    wanted.owner.tgid = process;
    wanted.tid = tid == 0 ? process : tid;
    return wanted;
  }
  Hold open(pid_t process, LockMode mode, const FileId& file = kFile) {
    LockRequest wanted = request_of(process, mode, file);
    auto outcome = room_->try_acquire(wanted);
    return outcome ? std::move(outcome->hold) : Hold{};
  }
  Hold join(pid_t process, LockMode mode) {
    LockRequest wanted = request_of(process, mode);
    auto outcome = room_->try_join(wanted);
    return outcome ? std::move(outcome->hold) : Hold{};
  }
  std::shared_ptr<Told> park_of(pid_t process, LockMode mode, const FileId& file = kFile, pid_t tid = 0) {
    auto told = std::make_shared<Told>();
    room_->park(request_of(process, mode, file, tid), std::make_unique<TestWaiter>(told));
    return told;
  }
  std::shared_ptr<Told> park_flock(const Hold& hold, LockMode mode, pid_t process = 10) {
    auto told = std::make_shared<Told>();
    room_->park_flock(hold, mode, process, process, std::make_unique<TestWaiter>(told));
    return told;
  }
  bool ticked_until(const std::function<bool()>& condition) {
    return eventually([&] {
      pass(milliseconds(1));
      return condition();
    });
  }
  void use(Reopen reopen) {
    room_.reset();
    reopen_ = reopen;
    room_ = make_room();
  }
};

}  // namespace flockfs::test
