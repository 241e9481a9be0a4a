// Circles of waits: which can never end, by the rules alone.

#include "lock/wait_graph.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <set>

namespace flockfs {
namespace {

constexpr FileId kF{1, 1};
constexpr FileId kG{1, 2};

WaitGraph::Node node(std::uint64_t id, pid_t process, FileId file, std::vector<pid_t> holders) {
  return {id, process, file, std::move(holders), std::nullopt};
}

WaitFacts single_threads(const WaitGraph& graph) {
  WaitFacts facts;
  for (const auto& one : graph.nodes) facts.processes[one.process].threads = 1;
  return facts;
}

TEST(WaitGraphTest, TwoWhoWaitForEachOtherAreACircle) {
  const WaitGraph graph{{node(1, 10, kF, {20}), node(2, 20, kG, {10})}};
  EXPECT_EQ(find_circle(graph, single_threads(graph), 1).waits.size(), 2U);
}

TEST(WaitGraphTest, WaitForSomebodyWhoRunsIsNone) {
  const WaitGraph graph{{node(1, 10, kF, {20}), node(2, 20, kG, {30})}};
  EXPECT_TRUE(find_circle(graph, single_threads(graph), 0).empty());
}

TEST(WaitGraphTest, ThreadThatRunsMayEndIt) {
  const WaitGraph graph{{node(1, 10, kF, {20}), node(2, 20, kG, {10})}};
  WaitFacts facts = single_threads(graph);
  facts.processes[20].threads = 2;
  EXPECT_TRUE(find_circle(graph, facts, 0).empty());
}

// All threads of 20 wait, but one of them for somebody who runs.
TEST(WaitGraphTest, ThreadWhoseWaitWillEndMayEndIt) {
  const WaitGraph graph{{node(1, 10, kF, {20}), node(2, 20, kG, {10}), node(3, 20, {1, 3}, {99})}};
  WaitFacts facts = single_threads(graph);
  facts.processes[20].threads = 2;
  EXPECT_TRUE(find_circle(graph, facts, 0).empty());
}

TEST(WaitGraphTest, WhoHasHandedItOnIsNotWaitedFor) {
  const WaitGraph graph{{node(1, 10, kF, {20}), node(2, 20, kG, {10})}};
  WaitFacts facts = single_threads(graph);
  facts.holds[{10, kG}] = false;
  EXPECT_TRUE(find_circle(graph, facts, 0).empty());
}

// 10 has f and waits for g behind 20, who waits for f's holder: the queue counts.
TEST(WaitGraphTest, PlaceInAQueueCounts) {
  WaitGraph graph{{node(1, 20, kF, {10}), node(2, 30, kF, {}), node(3, 10, kG, {30})}};
  graph.nodes[1].ahead = 0;
  EXPECT_EQ(find_circle(graph, single_threads(graph), 2).waits.size(), 3U);
}

TEST(WaitGraphTest, CircleIsNamedWithoutTheWayToIt) {
  const WaitGraph graph{{node(1, 10, kF, {20}), node(2, 20, kG, {30}), node(3, 30, kF, {20})}};
  const WaitCircle circle = find_circle(graph, single_threads(graph), 0);
  EXPECT_EQ(std::set<std::size_t>(circle.waits.begin(), circle.waits.end()), (std::set<std::size_t>{1, 2}));
}

TEST(WaitGraphTest, UnknownProcessesAreNoCircle) {
  const WaitGraph graph{{node(1, 0, kF, {0})}};
  EXPECT_TRUE(find_circle(graph, {}, 0).empty());
}

// flock(1) -w: an alarm ends it. An open's wait with such a handler is taken to be meant.
TEST(WaitGraphTest, FlockOfAProcessThatCatchesAlarmsMayEnd) {
  WaitGraph graph{{node(1, 10, kF, {20}), node(2, 20, kG, {10})}};
  WaitFacts facts = single_threads(graph);
  facts.processes[20].catches_alarm = true;
  EXPECT_EQ(find_circle(graph, facts, 0).waits.size(), 2U);
  graph.nodes[1].flock = true;
  EXPECT_TRUE(find_circle(graph, facts, 0).empty());
  facts.processes[20].catches_alarm = false;
  EXPECT_EQ(find_circle(graph, facts, 0).waits.size(), 2U);
}

TEST(WaitGraphTest, WaitThatASignalEndsIsNoReason) {
  const WaitGraph graph{{node(1, 10, kF, {20}), node(2, 20, kG, {10})}};
  WaitFacts facts = single_threads(graph);
  facts.ending[2] = true;
  EXPECT_TRUE(find_circle(graph, facts, 0).empty());
  facts.ending[2] = false;
  EXPECT_FALSE(find_circle(graph, facts, 0).empty());
}

// What makes the other thread's wait endless belongs to the reasons, so that it is looked at.
TEST(WaitGraphTest, CircleRestsOnAllThreadsOfItsProcesses) {
  const WaitGraph graph{
      {node(1, 10, kF, {20}), node(2, 10, {1, 3}, {30}), node(3, 20, kG, {10}), node(4, 30, kG, {10})}};
  WaitFacts facts;
  const WaitCircle circle = find_circle(graph, facts, 0);
  EXPECT_EQ(circle.waits.size(), 2U);
  EXPECT_EQ(std::set<std::size_t>(circle.rests_on.begin(), circle.rests_on.end()), (std::set<std::size_t>{0, 1, 2, 3}));
  facts.processes[30].threads = 5;  // one of which may let 10 go on
  EXPECT_TRUE(find_circle(graph, facts, 0).empty());
}

// Random graphs against a model: let everybody who can go on go on, until nobody can.
class Model {
 public:
  Model(const WaitGraph& graph, const WaitFacts& facts)
      : graph_(graph), facts_(facts), waits_(graph.nodes.size(), true) {
    for (bool moved = true; moved;) {
      moved = false;
      for (std::size_t at = 0; at < waits_.size(); ++at) {
        if (!waits_[at] || blocked(at)) continue;
        waits_[at] = false;
        moved = true;
      }
    }
  }
  [[nodiscard]] bool for_ever(std::size_t at) const { return waits_[at]; }

 private:
  [[nodiscard]] bool runs(pid_t process) const {
    std::size_t waiting = 0;
    for (std::size_t at = 0; at < waits_.size(); ++at) {
      if (graph_.nodes[at].process == process && waits_[at]) ++waiting;
    }
    return waiting < facts_.processes.at(process).threads;
  }
  [[nodiscard]] bool blocked(std::size_t at) const {
    const auto& node = graph_.nodes[at];
    if (node.ahead && waits_[*node.ahead]) return true;
    return std::any_of(node.holders.begin(), node.holders.end(), [&](pid_t holder) { return !runs(holder); });
  }
  const WaitGraph& graph_;
  const WaitFacts& facts_;
  std::vector<bool> waits_;
};

TEST(WaitGraphTest, AgreesWithTheModelOnRandomGraphs) {
  std::mt19937 random(20261124);
  const auto up_to = [&random](int most) { return std::uniform_int_distribution<int>(0, most)(random); };
  int circles = 0;
  for (int round = 0; round < 20000; ++round) {
    WaitGraph graph;
    WaitFacts facts;
    const int processes = 2 + up_to(4);
    for (pid_t process = 1; process <= processes; ++process) {
      const int threads = 1 + up_to(1);
      facts.processes[process].threads = static_cast<std::size_t>(threads);
      for (int thread = 0; thread < threads; ++thread) {
        if (up_to(9) == 0) continue;  // it runs
        WaitGraph::Node made = node(graph.nodes.size() + 1, process, {1, static_cast<ino_t>(up_to(2))}, {});
        for (int holders = up_to(2); holders > 0; --holders) {
          const pid_t holder = 1 + up_to(processes - 1);
          if (holder != process) made.holders.push_back(holder);
        }
        if (!graph.nodes.empty() && up_to(3) == 0)
          made.ahead = static_cast<std::size_t>(up_to(static_cast<int>(graph.nodes.size()) - 1));
        graph.nodes.push_back(std::move(made));
      }
    }
    const Model model(graph, facts);
    for (std::size_t at = 0; at < graph.nodes.size(); ++at) {
      const WaitCircle circle = find_circle(graph, facts, at);
      ASSERT_EQ(!circle.empty(), model.for_ever(at)) << "round " << round << ", wait " << at;
      for (const std::size_t in : circle.rests_on) ASSERT_TRUE(model.for_ever(in));
      circles += circle.empty() ? 0 : 1;
    }
  }
  EXPECT_GT(circles, 1000);
}

}  // namespace
}  // namespace flockfs
