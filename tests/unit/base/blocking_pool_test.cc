#include "base/blocking_pool.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/file.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <filesystem>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "base/unique_fd.h"
#include "eventually.h"

namespace flockfs {
namespace {

using std::chrono::milliseconds;

std::size_t threads_of_this_process() {
  const std::filesystem::directory_iterator tasks("/proc/self/task");
  return static_cast<std::size_t>(std::distance(begin(tasks), end(tasks)));
}

// A pipe without a writer's byte: read(2) of it blocks.
struct Pipe {
  Pipe() {
    std::array<int, 2> ends{};
    EXPECT_EQ(pipe2(ends.data(), O_CLOEXEC), 0);
    reader.reset(ends[0]);
    writer.reset(ends[1]);
  }
  void release() const { EXPECT_EQ(write(writer.get(), "x", 1), 1); }
  UniqueFd reader;
  UniqueFd writer;
};

TEST(BlockingPoolTest, JobsRunAtTheSameTime) {
  std::atomic<int> inside{0};
  std::atomic<bool> go{false};
  BlockingPool pool(8);
  for (int i = 0; i < 8; ++i) {
    ASSERT_TRUE(pool.run([&] {
      ++inside;
      EXPECT_TRUE(eventually([&] { return go.load(); }));
    }));
  }
  EXPECT_TRUE(eventually([&] { return inside == 8; }));
  go = true;
}

TEST(BlockingPoolTest, JobBeyondTheLimitIsRefusedAtOnce) {
  const Pipe pipe;
  BlockingPool pool(1);
  std::atomic<bool> ran{false};
  ASSERT_TRUE(pool.run([&] {
    char byte = 0;
    EXPECT_EQ(read(pipe.reader.get(), &byte, 1), 1);
  }));
  EXPECT_FALSE(pool.run([&] { ran = true; }));
  pipe.release();
  EXPECT_TRUE(eventually([&] { return pool.run([&] { ran = true; }); })) << "the thread is free again";
  EXPECT_TRUE(eventually([&] { return ran.load(); }));
}

TEST(BlockingPoolTest, PoolOfNoneRefusesAndHasNoThreads) {
  const std::size_t before = threads_of_this_process();
  BlockingPool pool(0);
  EXPECT_FALSE(pool.run([] { ADD_FAILURE(); }));
  EXPECT_EQ(threads_of_this_process(), before);
}

TEST(BlockingPoolTest, IdleThreadIsReused) {
  BlockingPool pool(4);
  std::atomic<int> done{0};
  for (int i = 0; i < 20; ++i) {
    ASSERT_TRUE(eventually([&] { return pool.run([&] { ++done; }); }));
    ASSERT_TRUE(eventually([&] { return done == i + 1; }));
    std::this_thread::sleep_for(milliseconds(2));
  }
  EXPECT_LE(pool.threads(), 2U);
}

TEST(BlockingPoolTest, IdleThreadsEnd) {
  BlockingPool pool(4, milliseconds(10));
  for (int round = 0; round < 3; ++round) {
    ASSERT_TRUE(eventually([&] { return pool.run([] {}) && pool.run([] {}); }));
    EXPECT_TRUE(eventually([&] { return pool.threads() == 0; }));
  }
}

TEST(BlockingPoolTest, NoThreadIsLeft) {
  std::thread([] {}).join();  // the thread sanitizer makes one of its own with the first
  const std::size_t before = threads_of_this_process();
  {
    BlockingPool pool(16, milliseconds(1));
    for (int i = 0; i < 200; ++i) (void)pool.run([] { std::this_thread::sleep_for(milliseconds(1)); });
  }
  EXPECT_EQ(threads_of_this_process(), before);
}

TEST(BlockingPoolTest, OnlyTheWakeSignalIsOpen) {
  BlockingPool pool(1);
  sigset_t mask;
  std::atomic<bool> done{false};
  ASSERT_TRUE(pool.run([&] {
    pthread_sigmask(SIG_SETMASK, nullptr, &mask);
    done = true;
  }));
  ASSERT_TRUE(eventually([&] { return done.load(); }));
  EXPECT_EQ(sigismember(&mask, BlockingPool::kWakeSignal), 0);
  for (const int blocked : {SIGTERM, SIGINT, SIGHUP, SIGUSR2, SIGCHLD}) EXPECT_EQ(sigismember(&mask, blocked), 1);
}

// Blocks in read(2) through the point and says with which errno it ended.
void block(InterruptiblePoint& point, const Pipe& pipe, std::atomic<int>& result,
           const std::function<void()>& entered) {
  if (!point.enter()) {
    result = ECANCELED;
    return;
  }
  if (entered) entered();
  char byte = 0;
  const int error = read(pipe.reader.get(), &byte, 1) == 1 ? 0 : errno;
  point.leave();
  result = error;
}

TEST(InterruptiblePointTest, InterruptEndsABlockedCall) {
  const Pipe pipe;
  BlockingPool pool(1);
  InterruptiblePoint point(pool);
  std::atomic<int> result{-1};
  ASSERT_TRUE(pool.run([&] { block(point, pipe, result, {}); }));
  std::this_thread::sleep_for(milliseconds(20));
  point.interrupt();
  EXPECT_TRUE(eventually([&] { return result >= 0; }));
  EXPECT_TRUE(result == EINTR || result == ECANCELED) << result;
}

TEST(InterruptiblePointTest, SignalJustBeforeTheCallIsRepeated) {
  const Pipe pipe;
  BlockingPool pool(1);
  InterruptiblePoint point(pool);
  std::atomic<int> result{-1};
  // Interrupted after enter() by the thread itself: the first signal is delivered before read(2) begins.
  ASSERT_TRUE(pool.run([&] { block(point, pipe, result, [&] { point.interrupt(); }); }));
  EXPECT_TRUE(eventually([&] { return result == EINTR; }));
}

TEST(InterruptiblePointTest, InterruptedBeforeEnteringRefuses) {
  const Pipe pipe;
  BlockingPool pool(1);
  InterruptiblePoint point(pool);
  point.interrupt();
  point.interrupt();
  std::atomic<int> result{-1};
  ASSERT_TRUE(pool.run([&] { block(point, pipe, result, {}); }));
  EXPECT_TRUE(eventually([&] { return result == ECANCELED; }));
}

TEST(InterruptiblePointTest, NoSignalComesAfterLeaving) {
  const Pipe pipe;
  BlockingPool pool(1);
  auto point = std::make_unique<InterruptiblePoint>(pool);
  std::atomic<int> interrupted{-1};
  std::atomic<int> later{-1};
  ASSERT_TRUE(pool.run([&] {
    block(*point, pipe, interrupted, [&] { point->interrupt(); });
    point.reset();
    InterruptiblePoint next(pool);
    block(next, pipe, later, {});
  }));
  EXPECT_TRUE(eventually([&] { return interrupted == EINTR; }));
  std::this_thread::sleep_for(milliseconds(50));
  EXPECT_EQ(later, -1) << "the next call of the thread goes on";
  pipe.release();
  EXPECT_TRUE(eventually([&] { return later == 0; }));
}

TEST(InterruptiblePointTest, ManyAreEndedAtOnce) {
  const Pipe pipe;
  BlockingPool pool(64);
  std::vector<std::unique_ptr<InterruptiblePoint>> points;
  std::vector<std::atomic<int>> results(64);
  for (auto& result : results) {
    result = -1;
    points.push_back(std::make_unique<InterruptiblePoint>(pool));
    ASSERT_TRUE(pool.run([&pipe, &result, point = points.back().get()] { block(*point, pipe, result, {}); }));
  }
  for (const auto& point : points) point->interrupt();
  for (const auto& result : results) EXPECT_TRUE(eventually([&] { return result > 0; }));
}

}  // namespace
}  // namespace flockfs
