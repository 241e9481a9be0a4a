// What real mounts cannot be made to do at will: no threads, no descriptors, and the exact moment of a replacement.

#include "mirror/record_locks.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <chrono>
#include <memory>
#include <random>
#include <thread>
#include <vector>

#include "eventually.h"
#include "tree/temp_tree.h"

namespace flockfs {
namespace {

using std::chrono::milliseconds;

// What became of one request.
struct Outcome {
  std::atomic<int> error{-1};
  std::atomic<int> times{0};
  std::atomic<RecordLocks::WaitId> id{0};
  [[nodiscard]] bool told() const { return times != 0; }
};
using OutcomePtr = std::shared_ptr<Outcome>;

class RecordLocksTest : public TempTree {
 protected:
  void SetUp() override {
    TempTree::SetUp();
    write("f", "contents");
    inode_ = look("f").inode;
  }
  void TearDown() override {
    end();
    inode_.reset();
    TempTree::TearDown();
  }

  void begin(unsigned threads = 16) {
    pool_ = std::make_unique<BlockingPool>(threads);
    locks_ = std::make_unique<RecordLocks>(RecordLocks::Config{
        *pool_, [this] { return no_slots_ ? OpenSlots::Slot{} : slots_.take(); }, [this] { ++woken_; }});
  }
  void end() {
    if (!locks_) return;
    locks_->stop();
    pool_->wait_idle();
    locks_.reset();
    pool_.reset();
  }

  [[nodiscard]] RecordLocks::Client client(std::uint64_t owner, std::uint64_t file, int flags,
                                           bool apart = false) const {
    return {inode_, owner, file, flags, 4711, 0, apart};
  }
  OutcomePtr set(const RecordLocks::Client& client, const RecordLock& lock, bool wait = false) {
    auto outcome = std::make_shared<Outcome>();
    locks_->set(
        client, lock, wait, [outcome](RecordLocks::WaitId id) { outcome->id = id; },
        [outcome](int error) {
          outcome->error = error;
          ++outcome->times;
        });
    return outcome;
  }
  [[nodiscard]] int set_now(const RecordLocks::Client& client, const RecordLock& lock) {
    const auto outcome = set(client, lock);
    EXPECT_TRUE(eventually([&] { return outcome->told(); }));
    return outcome->error;
  }
  [[nodiscard]] UniqueFd open_outside() const { return UniqueFd(::open(at("f").c_str(), O_RDWR | O_CLOEXEC)); }
  [[nodiscard]] bool is_free(const RecordLock& lock) const {
    RecordConflict found;
    EXPECT_EQ(find_record_lock(open_outside().get(), lock, found), 0);
    return found.lock.type == F_UNLCK;
  }
  void flush(std::uint64_t owner) {
    bool told = false;
    locks_->flushed(inode_, owner, [&] { told = true; });
    EXPECT_TRUE(told);
  }

  InodePtr inode_;
  OpenSlots slots_{4096, 1};
  std::atomic<bool> no_slots_{false};
  std::atomic<int> woken_{0};
  std::unique_ptr<BlockingPool> pool_;
  std::unique_ptr<RecordLocks> locks_;
};

TEST_F(RecordLocksTest, WithoutThreadsWaitsArePolled) {
  begin(0);
  const UniqueFd outside = open_outside();
  ASSERT_EQ(try_record_lock(outside.get(), {F_WRLCK, 0, 10}), 0);
  const auto first = set(client(1, 1, O_RDWR), {F_WRLCK, 0, 5}, true);
  const auto second = set(client(2, 2, O_RDWR), {F_WRLCK, 5, 5}, true);
  EXPECT_GE(woken_, 2);
  for (int look = 0; look < 20; ++look) {
    EXPECT_TRUE(locks_->poll());
    std::this_thread::sleep_for(milliseconds(1));
  }
  EXPECT_FALSE(first->told());
  locks_->interrupt(second->id);
  EXPECT_TRUE(eventually([&] { return locks_->poll(), second->told(); }));
  EXPECT_EQ(second->error, EINTR);
  ASSERT_EQ(try_record_lock(outside.get(), {F_UNLCK, 0, 0}), 0);
  EXPECT_TRUE(eventually([&] { return locks_->poll(), first->told(); }));
  EXPECT_EQ(first->error, 0);
  EXPECT_FALSE(locks_->poll());
  const auto third = set(client(2, 2, O_RDWR), {F_WRLCK, 0, 0}, true);
  locks_->stop();
  EXPECT_EQ(third->error, ENOTCONN);
  EXPECT_EQ(set(client(2, 2, O_RDWR), {F_WRLCK, 0, 0}, true)->error, ENOTCONN);
}

TEST_F(RecordLocksTest, WithoutADescriptorThereIsNoLock) {
  begin();
  no_slots_ = true;
  EXPECT_EQ(set_now(client(1, 1, O_RDWR), {F_WRLCK, 0, 0}), ENOLCK);
  EXPECT_EQ(set_now(client(1, 1, O_RDWR, true), {F_WRLCK, 0, 0}), ENOLCK);
  EXPECT_EQ(set_now(client(1, 1, O_RDWR), {F_UNLCK, 0, 0}), 0);
  no_slots_ = false;
  EXPECT_EQ(set_now(client(1, 1, O_RDONLY), {F_RDLCK, 0, 10}), 0);
  no_slots_ = true;
  EXPECT_EQ(set_now(client(1, 2, O_RDWR), {F_WRLCK, 0, 10}), ENOLCK);  // a second descriptor
  EXPECT_FALSE(is_free({F_WRLCK, 0, 10}));
  EXPECT_TRUE(is_free({F_RDLCK, 0, 10}));
  EXPECT_EQ(locks_->descriptors(), 1U);
  flush(1);
  EXPECT_EQ(locks_->descriptors(), 0U);
}

TEST_F(RecordLocksTest, WaitForADescriptorThatIsReplacedGoesOnWithTheNewOne) {
  begin();
  const UniqueFd outside = open_outside();
  ASSERT_EQ(try_record_lock(outside.get(), {F_WRLCK, 50, 10}), 0);
  ASSERT_EQ(set_now(client(1, 1, O_RDONLY), {F_RDLCK, 0, 10}), 0);
  const auto waiter = set(client(1, 1, O_RDONLY), {F_RDLCK, 40, 20}, true);
  ASSERT_EQ(set_now(client(1, 2, O_RDWR), {F_WRLCK, 0, 5}), 0);
  EXPECT_FALSE(waiter->told());
  EXPECT_FALSE(is_free({F_RDLCK, 0, 5}));
  EXPECT_FALSE(is_free({F_WRLCK, 5, 5}));
  EXPECT_EQ(locks_->descriptors(), 1U);
  ASSERT_EQ(try_record_lock(outside.get(), {F_UNLCK, 0, 0}), 0);
  EXPECT_TRUE(eventually([&] { return waiter->told(); }));
  EXPECT_EQ(waiter->error, 0);
  EXPECT_EQ(set_now(client(1, 2, O_RDWR), {F_WRLCK, 45, 1}), 0);
  flush(1);
  EXPECT_TRUE(is_free({F_WRLCK, 0, 0}));
  EXPECT_EQ(locks_->descriptors(), 0U);
}

// The lock is granted on the old descriptor at the very moment at which that is replaced: it must not stay there, nor
// be in the way of the owner's own.
TEST_F(RecordLocksTest, LockGrantedOnAReplacedDescriptorIsNotLeftThere) {
  begin();
  for (int round = 0; round < 500; ++round) {
    const UniqueFd outside = open_outside();
    ASSERT_EQ(try_record_lock(outside.get(), {F_WRLCK, 0, 1}), 0);
    ASSERT_EQ(set_now(client(1, 1, O_RDONLY), {F_RDLCK, 20, 10}), 0);
    const auto waiter = set(client(1, 1, O_RDONLY), {F_RDLCK, 0, 10}, true);
    std::thread releaser([&] {
      std::this_thread::sleep_for(std::chrono::microseconds(round % 50));
      EXPECT_EQ(try_record_lock(outside.get(), {F_UNLCK, 0, 0}), 0);
    });
    EXPECT_EQ(set_now(client(1, 2, O_RDWR), {F_WRLCK, 5, 5}), 0);
    releaser.join();
    ASSERT_TRUE(eventually([&] { return waiter->told(); }));
    EXPECT_EQ(waiter->error, 0);
    EXPECT_EQ(set_now(client(1, 2, O_RDWR), {F_WRLCK, 0, 0}), 0);
    EXPECT_EQ(set_now(client(1, 2, O_RDWR), {F_UNLCK, 10, 0}), 0);
    EXPECT_FALSE(is_free({F_RDLCK, 9, 1}));
    EXPECT_TRUE(is_free({F_WRLCK, 10, 0}));
    flush(1);
    ASSERT_TRUE(is_free({F_WRLCK, 0, 0})) << round;
    ASSERT_EQ(locks_->descriptors(), 0U);
  }
}

TEST_F(RecordLocksTest, CloseByAnotherThreadLeavesTheWait) {
  begin();
  const UniqueFd outside = open_outside();
  ASSERT_EQ(try_record_lock(outside.get(), {F_WRLCK, 0, 1}), 0);
  ASSERT_EQ(set_now(client(1, 1, O_RDWR), {F_WRLCK, 20, 10}), 0);
  const auto waiter = set(client(1, 1, O_RDWR), {F_WRLCK, 0, 10}, true);
  flush(1);
  EXPECT_TRUE(is_free({F_WRLCK, 20, 10}));
  EXPECT_FALSE(waiter->told());
  ASSERT_EQ(try_record_lock(outside.get(), {F_UNLCK, 0, 0}), 0);
  EXPECT_TRUE(eventually([&] { return waiter->told(); }));
  EXPECT_EQ(waiter->error, 0);
  EXPECT_FALSE(is_free({F_WRLCK, 0, 10}));
  locks_->released(inode_, 1);
  EXPECT_TRUE(is_free({F_WRLCK, 0, 0}));
  EXPECT_EQ(locks_->descriptors(), 0U);
}

TEST_F(RecordLocksTest, ReleaseEndsWhatWasLockedThroughThatFile) {
  begin();
  ASSERT_EQ(set_now(client(1, 1, O_RDWR), {F_WRLCK, 0, 10}), 0);
  ASSERT_EQ(set_now(client(1, 2, O_RDWR), {F_WRLCK, 5, 10}), 0);
  ASSERT_EQ(set_now(client(2, 1, O_RDWR), {F_WRLCK, 50, 10}), 0);
  locks_->released(inode_, 1);
  EXPECT_TRUE(is_free({F_WRLCK, 0, 5}));
  EXPECT_FALSE(is_free({F_WRLCK, 5, 10}));
  EXPECT_TRUE(is_free({F_WRLCK, 50, 10}));
  EXPECT_EQ(locks_->descriptors(), 1U);
  locks_->released(inode_, 2);
  EXPECT_TRUE(is_free({F_WRLCK, 0, 0}));
  EXPECT_EQ(locks_->descriptors(), 0U);
}

TEST_F(RecordLocksTest, LocksApartExcludeOneAnotherOnly) {
  begin();
  const UniqueFd outside = open_outside();
  ASSERT_EQ(try_record_lock(outside.get(), {F_WRLCK, 0, 0}), 0);
  const auto one = client(1, 1, O_RDONLY, true);
  const auto other = client(2, 2, O_RDWR, true);
  ASSERT_EQ(set_now(one, {F_RDLCK, 0, 10}), 0);
  EXPECT_EQ(set_now(other, {F_WRLCK, 5, 10}), EAGAIN);
  EXPECT_EQ(set_now(other, {F_WRLCK, 10, 10}), 0);
  const auto conflict = locks_->find(other, {F_WRLCK, 0, 0}, outside.get());
  EXPECT_EQ(conflict.found.lock.type, F_RDLCK);
  EXPECT_EQ(conflict.found.holder, 4711);
  EXPECT_EQ(locks_->find(client(3, 3, O_RDWR, true), {F_WRLCK, 10, 1}, outside.get()).found.lock.type, F_WRLCK);
  EXPECT_EQ(locks_->descriptors(), 3U);
  flush(1);
  flush(2);
  EXPECT_EQ(locks_->descriptors(), 0U);
}

// Threads of one process and closes in all orders: every request is told once, and nothing stays behind.
TEST_F(RecordLocksTest, EverythingAtOnce) {
  begin(32);
  std::vector<std::thread> threads;
  std::atomic<int> asked{0};
  std::atomic<int> told{0};
  std::vector<std::vector<OutcomePtr>> all(8);
  for (std::uint64_t thread = 0; thread < 8; ++thread) {
    threads.emplace_back([&, thread] {
      std::minstd_rand random(static_cast<unsigned>(thread) + 1);
      for (int step = 0; step < 1500; ++step) {
        const std::uint64_t owner = 1 + random() % 3;
        const std::uint64_t file = 10 * owner + random() % 3;
        const auto number = [&](unsigned bound) { return static_cast<off_t>(random() % bound); };
        const auto who = client(owner, file, file % 2 == 0 ? O_RDWR : O_RDONLY);
        const short types[] = {F_UNLCK, F_RDLCK, F_WRLCK};
        const RecordLock lock{types[random() % (file % 2 == 0 ? 3 : 2)], number(20), 1 + number(20)};
        if (random() % 8 == 0) {
          locks_->flushed(inode_, owner, [] {});
        } else if (random() % 8 == 0) {
          locks_->released(inode_, file);
        } else {
          ++asked;
          const auto outcome = std::make_shared<Outcome>();
          all[thread].push_back(outcome);
          locks_->set(
              who, lock, random() % 2 == 0, [outcome](RecordLocks::WaitId waits) { outcome->id = waits; },
              [&told, outcome](int error) {
                EXPECT_TRUE(error == 0 || error == EAGAIN || error == EINTR) << error;
                EXPECT_EQ(++outcome->times, 1);
                ++told;
              });
          if (random() % 2 == 0) std::this_thread::yield();
          locks_->interrupt(outcome->id);
        }
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  // Those that another thread's turn was to set may not have waited yet when they were interrupted.
  EXPECT_TRUE(eventually([&] {
    for (const auto& outcomes : all) {
      for (const OutcomePtr& outcome : outcomes) {
        if (!outcome->told()) locks_->interrupt(outcome->id);
      }
    }
    (void)locks_->poll();
    return told == asked;
  }));
  for (std::uint64_t owner = 1; owner <= 3; ++owner) {
    EXPECT_TRUE(eventually([&] {
      locks_->flushed(inode_, owner, [] {});
      for (std::uint64_t file = 10 * owner; file < 10 * owner + 3; ++file) locks_->released(inode_, file);
      return locks_->descriptors() == 0 || owner < 3;
    }));
  }
  EXPECT_TRUE(is_free({F_WRLCK, 0, 0}));
}

}  // namespace
}  // namespace flockfs
