#pragma once

#include <gtest/gtest.h>

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "harness/descriptor_passing.h"
#include "harness/mounted_mirror.h"
#include "model/actor.h"
#include "model/daemon_eyes.h"
#include "model/lock_model.h"

namespace flockfs::test::model {

// Has schedules carried out on a mirror, and compares what happens with the model after each command. The actors are
// used for many schedules.
class Director {
 public:
  // `actors` at the start of each schedule; `names` are the files, which are made where they are missing.
  Director(MountedMirror& mirror, const std::string& log, std::size_t actors, std::vector<std::string> names);

  // Nothing is open or held: a new schedule. One of the actors, p1, has a further thread.
  void begin();
  // Carries it out. Failure: what happened differs from the model, and nothing more can be done.
  [[nodiscard]] ::testing::AssertionResult step(const Command& command);
  // Closes all, in the order in which that can be done.
  [[nodiscard]] ::testing::AssertionResult finish();

  [[nodiscard]] const LockModel& model() const { return model_; }

  // Of all schedules, so that one can see that they are about something.
  struct Tally {
    int commands = 0;
    int waited = 0;
    int let_in = 0;   // after they had waited
    int refused = 0;  // with EDEADLK
  };
  [[nodiscard]] const Tally& tally() const { return tally_; }

 private:
  [[nodiscard]] std::string source(const std::string& name) const { return mirror_.source() + "/" + name; }
  void hire(int number, Actor::Threads threads);
  void carry_out(const Command& command);
  [[nodiscard]] int act_outside(const Command& command);
  [[nodiscard]] std::string await_answers(const Command& command);
  [[nodiscard]] std::string take_part_of_receiver(const Command& command);
  [[nodiscard]] std::string await_daemon();
  [[nodiscard]] bool daemon_agrees();
  [[nodiscard]] std::string look_for_early_birds() const;
  [[nodiscard]] std::optional<Command> next_to_finish() const;
  [[nodiscard]] bool has_something(int process) const;
  void note_names();
  void note_step(const Command& command);
  [[nodiscard]] ::testing::AssertionResult failure(const std::string& what);

  MountedMirror& mirror_;
  const std::size_t most_actors_;
  const std::vector<std::string> names_;
  SocketPair post_;
  DaemonEyes eyes_;
  std::map<int, std::unique_ptr<Actor>> actors_;
  LockModel model_;
  std::map<int, int> waits_before_;  // by process: lines of the log that are not of this schedule
  int unlocks_before_ = 0;
  std::map<int, ino_t> inodes_;  // by the model's number of a file
  std::map<int, UniqueFd> outside_;
  int outside_answer_ = 0;
  std::pair<UniqueFd, UniqueFd> child_conversation_;
  std::vector<std::string> steps_;
  Tally tally_;
};

}  // namespace flockfs::test::model
