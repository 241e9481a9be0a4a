#pragma once

#include <memory>
#include <optional>
#include <utility>

#include "lock/lock_fakes.h"
#include "lock/wait_room.h"

namespace flockfs::test {

// A wait room without a keeper thread: a test moves the clock and ticks.
class WaitRoomTest : public ::testing::Test {
 protected:
  static constexpr FileId kFile{1, 42};

  static constexpr LockMode kShared = LockMode::kShared;
  static constexpr LockMode kExclusive = LockMode::kExclusive;

  ~WaitRoomTest() override {
    // A thread of the pool that has told a waiter may still have it, and so the lock that was granted.
    EXPECT_TRUE(eventually([this] { return room_->stats().held == 0; }));
    EXPECT_EQ(room_->stats().waiting, 0U);
    room_.reset();  // waits for threads on their way back
    EXPECT_EQ(locker_.held(), 0U);
  }

  void use_pool(unsigned threads) {
    room_.reset();
    pool_ = std::make_unique<BlockingPool>(threads, milliseconds(50));
    room_ = make_room();
  }

  LockRequest request(LockMode mode, std::optional<Duration> timeout = {}) {
    LockRequest wanted;
    wanted.file = kFile;
    wanted.mode = mode;
    wanted.tid = 1;
    wanted.fd = some_fd();
    if (timeout) wanted.deadline = clock_.now() + *timeout;
    return wanted;
  }

  // An invalid Hold if it would have to wait.
  Hold try_acquire(LockMode mode) {
    LockRequest wanted = request(mode);
    std::optional<LockOutcome> outcome = room_->try_acquire(wanted);
    EXPECT_EQ(outcome.has_value(), !wanted.fd.valid()) << "an untaken request keeps its descriptor";
    return outcome ? std::move(outcome->hold) : Hold{};
  }

  std::shared_ptr<Told> park(LockMode mode, std::optional<Duration> timeout = {},
                             std::function<void(Told&)> when_told = {}) {
    auto told = std::make_shared<Told>();
    auto waiter = std::make_unique<TestWaiter>(told);
    waiter->when_told = std::move(when_told);
    room_->park(request(mode, timeout), std::move(waiter));
    return told;
  }

  void pass(Duration time) {
    clock_.advance(time);
    room_->tick();
  }

  std::unique_ptr<WaitRoom> make_room() {
    return std::make_unique<WaitRoom>(
        LockEngineConfig{locker_, probe_, foreign_, holders_, clock_, *pool_, kLongWait, reopen_},
        WaitRoom::Keeper::kNone);
  }

  FakeLocker locker_;
  FakeProbe probe_;
  FakeForeignLocks foreign_;
  FakeHolderProbe holders_;
  Reopen reopen_ = Reopen::kJoin;
  FakeClock clock_;
  std::unique_ptr<BlockingPool> pool_ = std::make_unique<BlockingPool>(4, milliseconds(50));
  std::unique_ptr<WaitRoom> room_ = make_room();
};

}  // namespace flockfs::test
