#include "base/side_by_side.h"

#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <cstddef>
#include <new>
#include <set>
#include <thread>

#include "base/blocking_pool.h"
#include "eventually.h"

namespace flockfs {
namespace {

TEST(SideBySideTest, EachPieceIsDoneOnce) {
  BlockingPool pool(2);
  for (int round = 0; round < 200; ++round) {
    std::array<std::atomic<int>, 50> done{};
    side_by_side(pool, done.size(), [&](std::size_t i) { ++done.at(i); });
    for (const auto& times : done) ASSERT_EQ(times, 1);
  }
}

TEST(SideBySideTest, TwoThreadsWork) {
  std::atomic<int> inside{0};
  BlockingPool pool(1);
  side_by_side(pool, 2, [&](std::size_t) {
    ++inside;
    EXPECT_TRUE(eventually([&] { return inside == 2; }));
  });
}

TEST(SideBySideTest, ItReturnsWhenTheOtherOneHasReturnedToo) {
  BlockingPool pool(1);
  const auto self = std::this_thread::get_id();
  std::atomic<bool> other_begun{false};
  std::atomic<bool> other_ended{false};
  side_by_side(pool, 2, [&](std::size_t) {
    if (std::this_thread::get_id() == self) {
      EXPECT_TRUE(eventually([&] { return other_begun.load(); }));
      return;
    }
    other_begun = true;
    std::this_thread::yield();
    other_ended = true;
  });
  EXPECT_TRUE(other_ended);
}

TEST(SideBySideTest, WithoutAnotherThreadItIsDoneAlone) {
  BlockingPool none(0);
  std::set<std::size_t> done;
  side_by_side(none, 5, [&](std::size_t i) { done.insert(i); });
  EXPECT_EQ(done, (std::set<std::size_t>{0, 1, 2, 3, 4}));
}

// The one that comes too late touches nothing: what it would have done is gone.
TEST(SideBySideTest, NobodyWaitsForOneThatHasNotBegun) {
  std::atomic<bool> go{false};
  BlockingPool pool(1);
  ASSERT_TRUE(pool.run([&] { EXPECT_TRUE(eventually([&] { return go.load(); })); }));
  int done = 0;
  side_by_side(pool, 3, [&](std::size_t) { ++done; });
  EXPECT_EQ(done, 3);
  go = true;
}

// Memory may run out in either.
TEST(SideBySideTest, WhatIsThrownInEitherThreadReachesTheCaller) {
  const auto self = std::this_thread::get_id();
  for (const bool by_the_other : {false, true}) {
    std::atomic<int> inside{0};
    std::atomic<int> ended{0};
    BlockingPool pool(1);
    const auto work = [&](std::size_t) {
      ++inside;
      EXPECT_TRUE(eventually([&] { return inside == 2; }));
      if ((std::this_thread::get_id() != self) == by_the_other) throw std::bad_alloc();
      std::this_thread::yield();
      ++ended;
    };
    EXPECT_THROW(side_by_side(pool, 2, work), std::bad_alloc);
    EXPECT_EQ(ended, 1);
  }
}

TEST(SideBySideTest, WhatHasNotBegunBeforeAFailureIsLeftOut) {
  BlockingPool none(0);
  int begun = 0;
  EXPECT_THROW(side_by_side(none, 5,
                            [&](std::size_t i) {
                              ++begun;
                              if (i == 1) throw std::bad_alloc();
                            }),
               std::bad_alloc);
  EXPECT_EQ(begun, 2);
}

TEST(SideBySideTest, NothingToDo) {
  BlockingPool pool(1);
  side_by_side(pool, 0, [](std::size_t) { ADD_FAILURE(); });
}

}  // namespace
}  // namespace flockfs
