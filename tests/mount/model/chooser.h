#pragma once

#include <optional>
#include <random>
#include <string>
#include <vector>

#include "model/lock_model.h"

namespace flockfs::test::model {

// Chooses what happens next, at random, among what the model can follow.
class Chooser {
 public:
  Chooser(unsigned seed, std::vector<std::string> names, std::size_t most_processes)
      : names_(std::move(names)), most_processes_(most_processes), random_(seed) {}

  [[nodiscard]] Command next(const LockModel& model);

 private:
  // Below `bound`.
  unsigned dice(std::size_t bound) { return static_cast<unsigned>(random_() % bound); }
  template <typename Value>
  Value one_of(const std::vector<Value>& from) {
    return from[dice(from.size())];
  }
  std::optional<Command> propose(const LockModel& model);
  std::optional<Command> propose_of_process(const LockModel& model, Command::Kind kind);
  std::optional<Command> propose_of_descriptor(const LockModel& model, Command command);
  int open_flags();
  int lock_operation();

  const std::vector<std::string> names_;
  const std::size_t most_processes_;
  std::mt19937 random_;
  int last_made_ = 100;  // processes of the start have lower numbers
};

}  // namespace flockfs::test::model
