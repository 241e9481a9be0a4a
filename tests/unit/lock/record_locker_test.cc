// Record locks of open file descriptions, and the list of them that is kept beside the kernel's.

#include "lock/record_locker.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <csignal>
#include <random>
#include <string>
#include <thread>

#include "lock/lock_fakes.h"
#include "lock/record_ranges.h"

namespace flockfs::test {
namespace {

class RecordLockerTest : public ::testing::Test {
 protected:
  RecordLockerTest() { UniqueFd(::mkostemp(path_.data(), O_CLOEXEC)).reset(); }
  ~RecordLockerTest() override { ::unlink(path_.c_str()); }

  [[nodiscard]] UniqueFd open_file(int flags = O_RDWR) const {
    UniqueFd fd(::open(path_.c_str(), flags | O_CLOEXEC));
    EXPECT_TRUE(fd.valid());
    return fd;
  }

 private:
  std::string path_ = "/tmp/flockfs-record-XXXXXX";
};

TEST_F(RecordLockerTest, ExcludesOthersInItsRangeOnly) {
  const UniqueFd one = open_file();
  const UniqueFd other = open_file();
  ASSERT_EQ(try_record_lock(one.get(), {F_WRLCK, 10, 10}), 0);
  EXPECT_EQ(try_record_lock(other.get(), {F_RDLCK, 19, 1}), EWOULDBLOCK);
  EXPECT_EQ(try_record_lock(other.get(), {F_WRLCK, 20, 0}), 0);
  EXPECT_EQ(try_record_lock(one.get(), {F_RDLCK, 10, 10}), 0);
  EXPECT_EQ(try_record_lock(other.get(), {F_RDLCK, 0, 20}), 0);
  EXPECT_EQ(try_record_lock(one.get(), {F_UNLCK, 0, 0}), 0);
  EXPECT_EQ(try_record_lock(other.get(), {F_WRLCK, 0, 0}), 0);
}

TEST_F(RecordLockerTest, NeedsADescriptorOfTheRightMode) {
  EXPECT_EQ(try_record_lock(open_file(O_RDONLY).get(), {F_WRLCK, 0, 0}), EBADF);
  EXPECT_EQ(try_record_lock(open_file(O_WRONLY).get(), {F_RDLCK, 0, 0}), EBADF);
}

TEST_F(RecordLockerTest, FindsWhatIsInTheWay) {
  const UniqueFd one = open_file();
  const UniqueFd other = open_file();
  RecordConflict found;
  ASSERT_EQ(find_record_lock(other.get(), {F_WRLCK, 0, 0}, found), 0);
  EXPECT_EQ(found.lock.type, F_UNLCK);
  ASSERT_EQ(try_record_lock(one.get(), {F_RDLCK, 5, 0}), 0);
  ASSERT_EQ(find_record_lock(other.get(), {F_WRLCK, 0, 100}, found), 0);
  EXPECT_EQ(found.lock.type, F_RDLCK);
  EXPECT_EQ(found.lock.start, 5);
  EXPECT_EQ(found.lock.length, 0);
  EXPECT_EQ(found.holder, -1);
}

TEST_F(RecordLockerTest, WaitEndsWithTheLockOrASignal) {
  BlockingPool pool(1);
  const UniqueFd one = open_file();
  const UniqueFd other = open_file();
  for (const bool interrupt : {true, false}) {
    ASSERT_EQ(try_record_lock(one.get(), {F_WRLCK, 0, 10}), 0);
    InterruptiblePoint point(pool);
    std::atomic<int> outcome{-1};
    ASSERT_TRUE(pool.run([&] {
      if (!point.enter()) return;
      const int error = wait_record_lock(other.get(), {F_WRLCK, 5, 10});
      point.leave();
      outcome = error;
    }));
    std::this_thread::sleep_for(milliseconds(20));  // time for it to go wrong
    EXPECT_EQ(outcome, -1);
    if (interrupt) {
      point.interrupt();
    } else {
      EXPECT_EQ(try_record_lock(one.get(), {F_UNLCK, 0, 0}), 0);
    }
    EXPECT_TRUE(eventually([&] { return outcome != -1; }));
    EXPECT_EQ(outcome, interrupt ? EINTR : 0);
    pool.wait_idle();
    EXPECT_EQ(try_record_lock(one.get(), {F_WRLCK, 10, 1}), interrupt ? 0 : EWOULDBLOCK);
  }
}

TEST(RecordRangesTest, LaterLocksReplaceWhatTheyCover) {
  RecordRanges ranges;
  ranges.set({F_WRLCK, 0, 100}, 1);
  ranges.set({F_RDLCK, 40, 20}, 1);
  ASSERT_EQ(ranges.all().size(), 3U);
  EXPECT_EQ(ranges.all()[1].type, F_RDLCK);
  EXPECT_EQ(ranges.all()[1].start, 40);
  EXPECT_EQ(ranges.all()[1].length, 20);
  EXPECT_EQ(ranges.all()[2].start, 60);
  EXPECT_EQ(ranges.all()[2].length, 40);
  ranges.set({F_WRLCK, 40, 20}, 1);
  ASSERT_EQ(ranges.all().size(), 1U);
  EXPECT_EQ(ranges.all()[0].length, 100);
  ranges.set({F_UNLCK, 10, 0}, 1);
  ASSERT_EQ(ranges.all().size(), 1U);
  EXPECT_EQ(ranges.all()[0].length, 10);
  EXPECT_FALSE(ranges.empty());
  ranges.set({F_UNLCK, 0, 0}, 1);
  EXPECT_TRUE(ranges.empty());
}

TEST(RecordRangesTest, KnowThroughWhichOpenFileEachWasTaken) {
  RecordRanges ranges;
  ranges.set({F_WRLCK, 0, 10}, 1);
  ranges.set({F_WRLCK, 10, 10}, 2);  // not joined with the other
  ranges.set({F_WRLCK, 4, 2}, 2);
  ASSERT_EQ(ranges.taken_through(1).size(), 2U);
  EXPECT_EQ(ranges.taken_through(1)[0].length, 4);
  EXPECT_EQ(ranges.taken_through(1)[1].start, 6);
  EXPECT_EQ(ranges.taken_through(2).size(), 2U);
  EXPECT_TRUE(ranges.taken_through(3).empty());
}

TEST(RecordRangesTest, KnowTheHolderOfALock) {
  RecordRanges ranges;
  ranges.set({F_WRLCK, 10, 10}, 1);
  EXPECT_TRUE(ranges.holds_start_of({F_WRLCK, 19, 0}));
  EXPECT_FALSE(ranges.holds_start_of({F_RDLCK, 19, 1}));
  EXPECT_FALSE(ranges.holds_start_of({F_WRLCK, 20, 1}));
  EXPECT_FALSE(ranges.holds_start_of({F_WRLCK, 9, 5}));
  ranges.set({F_WRLCK, 100, 0}, 1);
  EXPECT_TRUE(ranges.holds_start_of({F_WRLCK, off_t{1} << 62, 1}));
}

// The same requests to the kernel and to the list, byte by byte the same result.
TEST_F(RecordLockerTest, RangesAgreeWithTheKernel) {
  constexpr off_t kBytes = 24;
  std::mt19937 random(20261124);
  const auto below = [&](unsigned bound) { return static_cast<off_t>(random() % bound); };
  const UniqueFd owner = open_file();
  const UniqueFd prober = open_file();
  RecordRanges ranges;
  for (int step = 0; step < 3000; ++step) {
    static constexpr short kTypes[] = {F_RDLCK, F_WRLCK, F_UNLCK};
    const RecordLock lock{kTypes[below(3)], below(kBytes), below(9)};  // a length of 0 too
    ASSERT_EQ(try_record_lock(owner.get(), lock), 0);
    ranges.set(lock, static_cast<std::uint64_t>(below(2)));
    const RecordLock other{kTypes[below(2)], below(kBytes), below(9)};
    RecordConflict conflict;
    ASSERT_EQ(find_record_lock(prober.get(), other, conflict), 0);
    ASSERT_EQ(ranges.excludes(other), conflict.lock.type != F_UNLCK) << step;
    for (off_t byte = 0; byte < kBytes + 9; ++byte) {
      RecordConflict found;
      ASSERT_EQ(find_record_lock(prober.get(), {F_WRLCK, byte, 1}, found), 0);
      for (const short type : {short{F_RDLCK}, short{F_WRLCK}}) {
        ASSERT_EQ(ranges.holds_start_of({type, byte, 1}), found.lock.type == type) << step << ", byte " << byte;
      }
    }
  }
}

}  // namespace
}  // namespace flockfs::test
