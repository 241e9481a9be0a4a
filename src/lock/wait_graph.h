#pragma once

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <utility>
#include <vector>

#include "lock/file_id.h"
#include "lock/holder_probe.h"

namespace flockfs {

// Who waits for whom, at one moment. Pure.
//
// A wait is stuck when it can never end: somebody who holds what it waits for is stuck, or the request before it in the
// queue is. A process is stuck when all its threads wait and all their waits are: whoever can still run may close what
// it holds. A wait that a signal is about to end is not stuck, nor is a flock(2) call whose process catches SIGALRM:
// that is how flock(1) -w ends one.
struct WaitGraph {
  struct Node {
    std::uint64_t id = 0;  // later ones are greater
    pid_t process = 0;
    FileId file;
    std::vector<pid_t> holders;        // processes that hold the file in its way
    std::optional<std::size_t> ahead;  // the request before it in the queue, if it is in the graph
    bool flock = false;                // a flock(2) call; else an open
    pid_t tid = 0;                     // the thread that waits
  };
  // Those without a deadline.
  std::vector<Node> nodes;
};

// What was seen of the processes in a graph; whatever is not in it is taken to be as bad as it can be.
struct WaitFacts {
  std::map<pid_t, ProcessState> processes;
  std::map<std::pair<pid_t, FileId>, bool> holds;
  std::map<std::uint64_t, bool> ending;  // waits by id: whether a signal is about to end it
};

// Indexes of nodes.
struct WaitCircle {
  std::vector<std::size_t> waits;  // each waits for the next one's process, or behind it
  // Those, and whatever else must be stuck for them to be: all waits of each process in a circle's way, and so on.
  std::vector<std::size_t> rests_on;
  [[nodiscard]] bool empty() const { return waits.empty(); }
};

// A circle that the wait `start` is in or leads to, none of which can ever end as far as the facts tell; empty if there
// is none.
[[nodiscard]] WaitCircle find_circle(const WaitGraph& graph, const WaitFacts& facts, std::size_t start);

}  // namespace flockfs
