#pragma once

#include <sys/types.h>

#include <optional>
#include <string>
#include <vector>

#include "base/unique_fd.h"
#include "harness/child.h"
#include "harness/descriptor_passing.h"
#include "model/command.h"

namespace flockfs::test::model {

// A process that does what it is told, one command at a time, on files below one directory.
class Actor {
 public:
  struct Answer {
    int error = 0;
    pid_t pid = 0;  // of the child that a fork has made
  };

  // Forked from the test. `post` is a connected pair of sockets for descriptors that actors hand each other; the child
  // closes `elders`, the test's ends of the conversations with others.
  enum class Threads { kOne, kIdleOneToo };
  Actor(std::string directory, const SocketPair& post, const std::vector<int>& elders, Threads threads);
  // Forked by another actor, which has been given the other end of `socket`.
  Actor(pid_t pid, UniqueFd socket);
  ~Actor();
  Actor(const Actor&) = delete;
  Actor& operator=(const Actor&) = delete;

  [[nodiscard]] pid_t pid() const { return pid_; }
  [[nodiscard]] Threads threads() const { return threads_; }
  [[nodiscard]] int socket() const { return socket_.get(); }

  // `child_end`: of the child's conversation, for a fork.
  void tell(const Command& command, int child_end = -1) const;
  // One half of a handing over: the other one has told its part.
  void tell_to_receive(int made) const;
  // nullopt if none comes in time, or the actor has ended. 0: what has come already.
  [[nodiscard]] std::optional<Answer> answer(Millis time = kPatience) const;
  // Whether it has answered, or ended.
  [[nodiscard]] bool has_spoken() const;
  void interrupt() const;
  // Has gone, all its descriptors with it. False if it does not in time.
  [[nodiscard]] bool kill();

 private:
  std::optional<Child> child_;
  pid_t pid_ = -1;
  Threads threads_ = Threads::kOne;
  UniqueFd socket_;
};

}  // namespace flockfs::test::model
