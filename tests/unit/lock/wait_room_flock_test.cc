// The engine as it is in the daemon: real flock(2), real threads, real time.

#include <sys/file.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <array>
#include <csignal>
#include <cstring>
#include <random>

#include "lock/lock_fakes.h"

namespace flockfs::test {
namespace {

class WaitRoomFlockTest : public ::testing::Test {
 protected:
  static constexpr LockMode kShared = LockMode::kShared;
  static constexpr LockMode kExclusive = LockMode::kExclusive;

  WaitRoomFlockTest() {
    const UniqueFd fd = open_file();
    struct stat status {};
    EXPECT_EQ(fstat(fd.get(), &status), 0);
    file_ = {status.st_dev, status.st_ino};
  }
  ~WaitRoomFlockTest() override {
    end_child();
    EXPECT_TRUE(eventually([this] { return engine_->stats().held == 0 && engine_->stats().waiting == 0; }));
    engine_.reset();
    const UniqueFd fd = open_file();
    EXPECT_EQ(flock(fd.get(), LOCK_EX | LOCK_NB), 0) << "a lock is left: " << strerror(errno);
    unlink(path_.c_str());
  }

  UniqueFd open_file() {
    UniqueFd fd(open(path_.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
    EXPECT_TRUE(fd.valid());
    return fd;
  }

  LockRequest request(LockMode mode) {
    LockRequest wanted;
    wanted.file = file_;
    wanted.mode = mode;
    wanted.fd = open_file();
    return wanted;
  }

  std::shared_ptr<Told> park(LockMode mode, std::function<void(Told&)> when_told = {},
                             std::optional<Duration> timeout = {}) {
    auto told = std::make_shared<Told>();
    auto waiter = std::make_unique<TestWaiter>(told);
    waiter->when_told = std::move(when_told);
    LockRequest wanted = request(mode);
    if (timeout) wanted.deadline = clock_.now() + *timeout;
    engine_->park(std::move(wanted), std::move(waiter));
    return told;
  }

  // As the open pipeline does: try, then wait.
  std::shared_ptr<Told> acquire(LockMode mode) {
    LockRequest wanted = request(mode);
    auto told = std::make_shared<Told>();
    if (auto outcome = engine_->try_acquire(wanted)) {
      told->end = outcome->end;
      told->hold = std::move(outcome->hold);
      told->times = 1;
      return told;
    }
    engine_->park(std::move(wanted), std::make_unique<TestWaiter>(told));
    EXPECT_TRUE(eventually([&] { return told->told(); }));
    return told;
  }

  // A process outside that takes the lock, says so, and does `then`.
  void start_child(int operation, void (*then)()) {
    std::array<int, 2> ends{};
    ASSERT_EQ(pipe2(ends.data(), O_CLOEXEC), 0);
    said_.reset(ends[0]);
    const UniqueFd writer(ends[1]);
    child_ = fork();
    if (child_ != 0) return;
    const int fd = open(path_.c_str(), O_RDWR | O_CLOEXEC);
    while (flock(fd, operation) != 0) {
    }
    if (write(ends[1], "x", 1) != 1) _exit(1);
    then();
    _exit(0);
  }
  bool child_has_locked(milliseconds within) {
    struct pollfd poll_fd {
      said_.get(), POLLIN, 0
    };
    return poll(&poll_fd, 1, static_cast<int>(within.count())) == 1;
  }
  void end_child() {
    if (child_ <= 0) return;
    kill(child_, SIGKILL);
    waitpid(child_, nullptr, 0);
    child_ = -1;
  }
  static void hold_for_ever() {
    for (;;) pause();
  }
  static void leave() {}

  std::string path_ = testing::TempDir() + "/wait_room_flock_test." + std::to_string(getpid());
  FileId file_;
  FlockLocker locker_;
  ProcSignalProbe probe_;
  ProcForeignLocks foreign_;
  FakeHolderProbe holders_;
  SteadyClock clock_;
  BlockingPool pool_{8};
  std::unique_ptr<LockEngine> engine_ = make_lock_engine({locker_, probe_, foreign_, holders_, clock_, pool_});
  UniqueFd said_;
  pid_t child_ = -1;
};

TEST_F(WaitRoomFlockTest, HolderOutsideIsWaitedFor) {
  start_child(LOCK_EX, hold_for_ever);
  ASSERT_TRUE(child_has_locked(kDeadline));
  const auto told = park(kShared);
  std::this_thread::sleep_for(milliseconds(50));
  EXPECT_FALSE(told->told());
  end_child();
  ASSERT_TRUE(eventually([&] { return told->granted(); }));
  told->hold.reset();
}

TEST_F(WaitRoomFlockTest, DeadlineEndsAWaitForAHolderOutside) {
  start_child(LOCK_EX, hold_for_ever);
  ASSERT_TRUE(child_has_locked(kDeadline));
  const auto told = park(kShared, {}, milliseconds(100));
  ASSERT_TRUE(eventually([&] { return told->told(); }));
  EXPECT_EQ(told->end, WaitEnd::kTimedOut);
  EXPECT_GE(told->waited, milliseconds(50));  // the deadline was set a moment before the wait began
}

TEST_F(WaitRoomFlockTest, InterruptEndsAWaitForAHolderOutside) {
  start_child(LOCK_EX, hold_for_ever);
  ASSERT_TRUE(child_has_locked(kDeadline));
  const auto told = park(kExclusive);
  engine_->interrupt(told->id);  // its thread cannot be seen: every interrupt is real
  ASSERT_TRUE(eventually([&] { return told->told(); }));
  EXPECT_EQ(told->end, WaitEnd::kInterrupted);
}

TEST_F(WaitRoomFlockTest, HoldIsWhatTheSourceSees) {
  const auto told = acquire(kShared);
  const UniqueFd outside = open_file();
  EXPECT_EQ(flock(outside.get(), LOCK_EX | LOCK_NB), -1);
  EXPECT_EQ(flock(outside.get(), LOCK_SH | LOCK_NB), 0);
  flock(outside.get(), LOCK_UN);
  told->hold.reset();
  EXPECT_EQ(flock(outside.get(), LOCK_EX | LOCK_NB), 0);
}

TEST_F(WaitRoomFlockTest, ThousandReadersAreLetInWithin100Ms) {
  auto writer = acquire(kExclusive);
  std::vector<std::shared_ptr<Told>> readers;
  for (int i = 0; i < 1000; ++i) readers.push_back(park(kShared));
  const TimePoint begin = clock_.now();
  writer->hold.reset();
  for (const auto& reader : readers) ASSERT_TRUE(eventually([&] { return reader->granted(); }));
  const Duration took = clock_.now() - begin;
  RecordProperty("ms", std::to_string(to_ms(took)));
  std::cout << "1,000 readers: " << to_ms(took) << " ms\n";
  EXPECT_LT(took, milliseconds(100) * kSlower);
  for (const auto& reader : readers) reader->hold.reset();
}

TEST_F(WaitRoomFlockTest, ThousandWritersFollowOneAnotherWithinASecond) {
  auto holder = acquire(kExclusive);
  std::vector<std::shared_ptr<Told>> writers;
  for (int i = 0; i < 1000; ++i) writers.push_back(park(kExclusive, [](Told& told) { told.hold.reset(); }));
  const TimePoint begin = clock_.now();
  holder->hold.reset();
  for (const auto& writer : writers) ASSERT_TRUE(eventually([&] { return writer->granted(); }));
  const Duration took = clock_.now() - begin;
  std::cout << "1,000 writers: " << to_ms(took) << " ms\n";
  EXPECT_LT(took, seconds(1));
}

TEST_F(WaitRoomFlockTest, ThousandReadersBehindAHolderOutside) {
  start_child(LOCK_EX, hold_for_ever);
  ASSERT_TRUE(child_has_locked(kDeadline));
  std::vector<std::shared_ptr<Told>> readers;
  for (int i = 0; i < 1000; ++i) readers.push_back(park(kShared));
  EXPECT_EQ(pool_.threads(), 1U);
  const TimePoint begin = clock_.now();
  end_child();
  for (const auto& reader : readers) ASSERT_TRUE(eventually([&] { return reader->granted(); }));
  std::cout << "1,000 readers behind one outside: " << to_ms(clock_.now() - begin) << " ms\n";
  for (const auto& reader : readers) reader->hold.reset();
}

TEST_F(WaitRoomFlockTest, StopEndsAThousandWaits) {
  start_child(LOCK_EX, hold_for_ever);
  ASSERT_TRUE(child_has_locked(kDeadline));
  std::vector<std::shared_ptr<Told>> waits;
  for (int i = 0; i < 1000; ++i) waits.push_back(park(i % 2 == 0 ? kShared : kExclusive));
  const TimePoint begin = clock_.now();
  engine_->stop_waits();
  std::cout << "1,000 stopped: " << to_ms(clock_.now() - begin) << " ms\n";
  for (const auto& wait : waits) EXPECT_EQ(wait->end, WaitEnd::kStopped);
}

// Eight threads that hold the file shared, one or more at any moment.
class OverlappingReaders {
 public:
  OverlappingReaders(std::function<std::shared_ptr<Told>()> acquire, milliseconds hold) {
    for (int i = 0; i < 8; ++i) {
      threads_.emplace_back([this, acquire, hold] {
        while (!stop_) {
          const auto told = acquire();
          std::this_thread::sleep_for(hold);
          told->hold.reset();
          ++reads;
        }
      });
    }
  }
  ~OverlappingReaders() {
    stop_ = true;
    for (std::thread& thread : threads_) thread.join();
  }
  std::atomic<int> reads{0};

 private:
  std::atomic<bool> stop_{false};
  std::vector<std::thread> threads_;
};

TEST_F(WaitRoomFlockTest, WriterOutsideGetsThroughOverlappingReaders) {
  for (const milliseconds hold : {milliseconds(0), milliseconds(1), milliseconds(20), milliseconds(150)}) {
    const OverlappingReaders readers([this] { return acquire(kShared); }, hold);
    ASSERT_TRUE(eventually([&] { return readers.reads > 20; }));
    const TimePoint begin = clock_.now();
    start_child(LOCK_EX, leave);
    ASSERT_TRUE(child_has_locked(seconds(2))) << hold.count();
    std::cout << "outside writer through readers of " << hold.count() << " ms: " << to_ms(clock_.now() - begin)
              << " ms\n";
    const int reads = readers.reads;
    EXPECT_TRUE(eventually([&] { return readers.reads > reads + 8; })) << "and the readers go on";
    end_child();
  }
}

TEST_F(WaitRoomFlockTest, WriterOfTheMirrorGetsThroughOverlappingReaders) {
  const OverlappingReaders readers([this] { return acquire(kShared); }, milliseconds(20));
  ASSERT_TRUE(eventually([&] { return readers.reads > 20; }));
  const TimePoint begin = clock_.now();
  const auto told = acquire(kExclusive);
  EXPECT_LT(clock_.now() - begin, seconds(2));
  std::cout << "mirror's writer through readers of 20 ms: " << to_ms(clock_.now() - begin) << " ms\n";
  told->hold.reset();
}

TEST_F(WaitRoomFlockTest, WithoutThreadsAThousandFilesAreStillWaitedFor) {
  BlockingPool none(0);
  engine_ = make_lock_engine({locker_, probe_, foreign_, holders_, clock_, none});
  start_child(LOCK_EX, hold_for_ever);
  ASSERT_TRUE(child_has_locked(kDeadline));
  const auto told = park(kShared);
  end_child();
  ASSERT_TRUE(eventually([&] { return told->granted(); }));
  told->hold.reset();
  engine_.reset();
  engine_ = make_lock_engine({locker_, probe_, foreign_, holders_, clock_, pool_});
}

TEST_F(WaitRoomFlockTest, NothingIsLeftAfterARandomStorm) {
  const unsigned seed = std::random_device{}();
  SCOPED_TRACE(seed);
  const TimePoint end = clock_.now() + seconds(2);
  std::atomic<int> inside_exclusive{0};
  std::atomic<int> inside_shared{0};
  std::array<std::atomic<int>, 5> ends{};
  const auto use = [&](Told& told, LockMode mode) {
    (mode == kExclusive ? inside_exclusive : inside_shared)++;
    EXPECT_LE(inside_exclusive, 1);
    EXPECT_TRUE(mode == kShared || inside_shared == 0);
    (mode == kExclusive ? inside_exclusive : inside_shared)--;
    told.hold.reset();
  };
  const auto client = [&](unsigned number) {
    std::mt19937 random(seed + number);
    while (clock_.now() < end) {
      const LockMode mode = random() % 3 == 0 ? kExclusive : kShared;
      const bool release_inside = random() % 2 == 0;
      std::optional<Duration> timeout;
      if (random() % 3 == 0) timeout = std::chrono::microseconds(random() % 2000);
      const auto told = park(
          mode,
          [&, mode, release_inside](Told& which) {
            if (release_inside && which.granted()) use(which, mode);
          },
          timeout);
      if (random() % 4 == 0) engine_->interrupt(told->id);
      ASSERT_TRUE(eventually([&] { return told->told(); }));
      ++ends[static_cast<std::size_t>(told->end)];
      if (!release_inside && told->granted()) use(*told, mode);
    }
  };
  const auto outsider = [&] {
    std::mt19937 random(seed);
    const UniqueFd fd = open_file();
    while (clock_.now() < end) {
      flock(fd.get(), random() % 2 == 0 ? LOCK_EX : LOCK_SH);
      std::this_thread::sleep_for(std::chrono::microseconds(random() % 3000));
      flock(fd.get(), LOCK_UN);
      std::this_thread::sleep_for(std::chrono::microseconds(random() % 3000));
    }
  };
  std::vector<std::thread> threads;
  for (unsigned i = 0; i < 6; ++i) threads.emplace_back(client, i);
  threads.emplace_back(outsider);
  for (std::thread& thread : threads) thread.join();
  std::cout << "granted " << ends[0] << ", timed out " << ends[1] << ", interrupted " << ends[2] << "\n";
  EXPECT_GT(ends[0], 0);
  EXPECT_GT(ends[1], 0);
  EXPECT_GT(ends[2], 0);
  EXPECT_EQ(ends[4], 0);
}

}  // namespace
}  // namespace flockfs::test
