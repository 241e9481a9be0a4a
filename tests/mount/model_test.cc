// The lock table's rules against a model of them (model/lock_model.h): random schedules of opens, closes, copies,
// forks, kills, replacements, truncations and locks, by several processes on the mirror and by somebody on the source,
// on a real mount. After every command it is known who has returned, and how, who waits, and what is held on the
// source.
//
// FLOCKFS_MODEL_SEED: repeats one schedule. FLOCKFS_MODEL_SCHEDULES: how many.

#include <fcntl.h>
#include <gtest/gtest.h>

#include <cstdio>
#include <cstdlib>
#include <random>
#include <string>
#include <vector>

#include "harness/mirror_test.h"
#include "model/chooser.h"
#include "model/director.h"

namespace flockfs::test {
namespace {

constexpr std::size_t kActors = 4;
constexpr std::size_t kMostProcesses = 6;
constexpr int kCommands = 25;
constexpr unsigned kFewest = 100;  // schedules in which everything has happened

unsigned number_from(const char* variable, unsigned otherwise) {
  const char* text = std::getenv(variable);
  return text == nullptr ? otherwise : static_cast<unsigned>(std::strtoul(text, nullptr, 10));
}

class ModelTest : public PassthroughTest {
 protected:
  static constexpr unsigned kNone = 0;
  const std::vector<std::string> names_{"f0", "f1", "f2"};

  static ::testing::AssertionResult play(model::Director& director, model::Chooser chooser) {
    director.begin();
    for (int i = 0; i < kCommands; ++i) {
      if (auto done = director.step(chooser.next(director.model())); !done) return done;
    }
    return director.finish();
  }
};
INSTANTIATE_TEST_SUITE_P(Mount, ModelTest, BothPassthroughs(), passthrough_name);

TEST_P(ModelTest, EveryCallReturnsOrWaitsAsTheContractSays) {
  for (const std::string& name : names_) write_file(source(name), "contents");
  const unsigned chosen = number_from("FLOCKFS_MODEL_SEED", kNone);
  const unsigned first = chosen != kNone ? chosen : std::random_device()();
  const unsigned usual = std::getenv("FLOCKFS_TEST_FULL") != nullptr ? 2'500 : kFewest + kFewest / 2;
  const unsigned schedules = number_from("FLOCKFS_MODEL_SCHEDULES", chosen != kNone ? 1 : usual);
  mount({.options = {"attr_timeout=0", "entry_timeout=0", "nonblock=try"},
         .test_deadline = Millis(100'000) + schedules * Millis(200)});
  EXPECT_TRUE(in_child([&] {
    for (const std::string& name : names_) EXPECT_EQ(open_error(mnt(name), O_RDWR), 0);
  }));
  const int threads = mirror().threads();
  const int descriptors = mirror().descriptors();
  const Stopwatch watch;
  {
    model::Director director(mirror(), log().file(), kActors, names_);
    for (unsigned i = 0; i < schedules; ++i) {
      const auto played = play(director, model::Chooser(first + i, names_, kMostProcesses));
      ASSERT_TRUE(played) << "FLOCKFS_MODEL_SEED=" << first + i << " (schedule " << i << ")";
    }
    const auto& tally = director.tally();
    std::printf(
        "model: FLOCKFS_MODEL_SEED=%u and on: %u schedules in %lld ms, %d commands, %d waited, %d let in, %d refused\n",
        first, schedules, static_cast<long long>(watch.elapsed().count()), tally.commands, tally.waited, tally.let_in,
        tally.refused);
    if (schedules >= kFewest) {
      EXPECT_GT(tally.waited, tally.commands / 50);
      EXPECT_GT(tally.let_in, tally.commands / 100);
      EXPECT_GT(tally.refused, 0);
    }
  }
  expect_as_small_as(threads, descriptors, "f0");
}

}  // namespace
}  // namespace flockfs::test
