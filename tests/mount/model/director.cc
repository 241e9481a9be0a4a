#include "model/director.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <sstream>
#include <thread>

#include "harness/connection.h"
#include "harness/files.h"
#include "harness/source_lock.h"

namespace flockfs::test::model {
namespace {

using Kind = Command::Kind;

// As eventually(), for what takes some microseconds thousands of times.
bool soon(const std::function<bool()>& predicate) {
  for (int tries = 0; tries < 50; ++tries) {
    if (predicate()) return true;
    std::this_thread::sleep_for(std::chrono::microseconds(20));
  }
  return eventually(predicate);
}

std::string error_text(int error) { return error == 0 ? "0" : errno_name(error); }

std::string lock_text(LockModel::Locks locks) {
  return std::to_string(locks.shared) + " shared, " + std::to_string(locks.exclusive) + " exclusive";
}

}  // namespace

Director::Director(MountedMirror& mirror, const std::string& log, std::size_t actors, std::vector<std::string> names)
    : mirror_(mirror),
      most_actors_(actors),
      names_(std::move(names)),
      eyes_(mirror.daemon(), log),
      model_({}, {}, {}) {}

void Director::hire(int number, Actor::Threads threads) {
  std::vector<int> elders;
  for (const auto& [other, actor] : actors_) elders.push_back(actor->socket());
  for (const auto& [lock, fd] : outside_) elders.push_back(fd.get());
  actors_[number] = std::make_unique<Actor>(mirror_.mountpoint(), post_, elders, threads);
}

// Schedules do not depend on one another: the same number of processes and the same files each time.
void Director::begin() {
  for (const std::string& name : names_) {
    if (!exists(source(name))) write_file(source(name), "contents");
  }
  std::map<int, std::unique_ptr<Actor>> before;
  std::swap(before, actors_);
  std::set<int> free;
  for (int number = 1; number <= static_cast<int>(most_actors_); ++number) free.insert(number);
  for (auto& [old, actor] : before) {
    const bool threaded = actor->threads() == Actor::Threads::kIdleOneToo;
    const auto number =
        threaded ? free.begin() : std::find_if(free.begin(), free.end(), [](int one) { return one > 1; });
    if (number == free.end()) {
      EXPECT_TRUE(actor->kill());
      continue;
    }
    actors_[*number] = std::move(actor);
    free.erase(number);
  }
  for (const int number : free) hire(number, number == 1 ? Actor::Threads::kIdleOneToo : Actor::Threads::kOne);
  std::vector<int> processes;
  for (const auto& [process, actor] : actors_) processes.push_back(process);
  model_ = LockModel(processes, {1}, names_);
  EXPECT_TRUE(soon([this] { return eyes_.locks().empty(); }));
  eyes_.look();
  eyes_.forget_recent();
  waits_before_.clear();
  for (const auto& [process, actor] : actors_) waits_before_[process] = eyes_.waits(actor->pid());
  unlocks_before_ = eyes_.unlocks();
  inodes_.clear();
  note_names();
  steps_.clear();
}

void Director::note_names() {
  for (const auto& [name, number] : model_.names()) {
    if (!inodes_.contains(number) && exists(source(name))) inodes_[number] = stat_of(source(name)).st_ino;
  }
}

::testing::AssertionResult Director::step(const Command& command) {
  if (const std::string early = look_for_early_birds(); !early.empty()) return failure(early);
  steps_.push_back(describe(command));
  model_.apply(command);
  carry_out(command);
  std::string wrong = await_answers(command);
  if (wrong.empty()) wrong = take_part_of_receiver(command);
  note_names();
  if (wrong.empty()) wrong = await_daemon();
  if (wrong.empty()) wrong = look_for_early_birds();
  if (!wrong.empty()) return failure(wrong);
  note_step(command);
  return ::testing::AssertionSuccess();
}

void Director::note_step(const Command& command) {
  ++tally_.commands;
  std::string& line = steps_.back();
  for (const LockModel::Ended& ended : model_.ended()) {
    line += "; p" + std::to_string(ended.process) + ": " + error_text(ended.error);
    if (ended.process != command.process && ended.error == 0) ++tally_.let_in;
    if (ended.error == EDEADLK) ++tally_.refused;
  }
  if (!actors_.contains(command.process) || !model_.waits(command.process)) return;
  line += "; waits";
  ++tally_.waited;
}

void Director::carry_out(const Command& command) {
  if (command.process == LockModel::kOutside) {
    outside_answer_ = act_outside(command);
    return;
  }
  Actor& actor = *actors_.at(command.process);
  if (command.kind == Kind::kKill) {
    EXPECT_TRUE(actor.kill());
    actors_.erase(command.process);
  } else if (command.kind == Kind::kSignal) {
    actor.interrupt();
  } else if (command.kind == Kind::kFork) {
    std::array<int, 2> ends{};
    if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends.data()) != 0)
      throw std::runtime_error("socketpair");
    child_conversation_ = {UniqueFd(ends[0]), UniqueFd(ends[1])};
    actor.tell(command, ends[1]);
  } else {
    actor.tell(command);
  }
}

int Director::act_outside(const Command& command) {
  const std::string path = source(command.name);
  switch (command.kind) {
    case Kind::kReplace:
      write_file(source("aside"), "contents");
      return ::rename(source("aside").c_str(), path.c_str()) == 0 ? 0 : errno;
    case Kind::kRemove:
      return ::unlink(path.c_str()) == 0 ? 0 : errno;
    case Kind::kOutsideTry: {
      UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
      if (!fd || ::flock(fd.get(), command.flags) != 0) return errno;
      outside_[command.made] = std::move(fd);
      return 0;
    }
    default:  // actors that were made meanwhile have the descriptor, too
      ::flock(outside_.at(command.number).get(), LOCK_UN);
      outside_.erase(command.number);
      return 0;
  }
}

std::string Director::await_answers(const Command& command) {
  for (const LockModel::Ended& ended : model_.ended()) {
    const std::string who = "p" + std::to_string(ended.process);
    Actor::Answer answer;
    if (ended.process == LockModel::kOutside) {
      answer.error = outside_answer_;
    } else {
      const auto given = actors_.at(ended.process)->answer();
      if (!given) return who + " should have returned " + error_text(ended.error);
      answer = *given;
    }
    if (answer.error != ended.error) {
      return who + " returned " + error_text(answer.error) + " instead of " + error_text(ended.error);
    }
    if (command.kind == Kind::kFork) {
      auto& [own, others] = child_conversation_;
      others.reset();
      actors_[command.made] = std::make_unique<Actor>(answer.pid, std::move(own));
      waits_before_[command.made] = eyes_.waits(answer.pid);
    }
  }
  return {};
}

std::string Director::take_part_of_receiver(const Command& command) {
  if (command.kind != Kind::kHandOver) return {};
  const Actor& receiver = *actors_.at(command.other);
  receiver.tell_to_receive(command.made);
  const auto answer = receiver.answer();
  return answer && answer->error == 0 ? "" : "p" + std::to_string(command.other) + " did not get the descriptor";
}

// Until the daemon has done all that follows from the command: it does nothing more, those wait that should, what was
// closed is unlocked, and on the source there are the locks that should be.
std::string Director::await_daemon() {
  if (soon([this] { return daemon_agrees(); })) {
    for (const auto& [process, actor] : actors_) {
      waits_before_[process] = eyes_.waits(actor->pid()) - model_.parks(process);
    }
    unlocks_before_ = eyes_.unlocks() - model_.unlocks();
    return {};
  }
  std::string wrong = "the daemon differs:";
  const auto held = eyes_.locks();
  for (const auto& [number, wanted] : model_.locks()) {
    const auto inode = inodes_.find(number);
    const auto has = inode == inodes_.end() ? held.end() : held.find(inode->second);
    const LockModel::Locks seen = has == held.end() ? LockModel::Locks{} : has->second;
    if (!(seen == wanted)) {
      wrong +=
          " file " + std::to_string(number) + " is held " + lock_text(seen) + " instead of " + lock_text(wanted) + ";";
    }
  }
  for (const int process : model_.processes(true)) {
    const int waited = eyes_.waits(actors_.at(process)->pid()) - waits_before_[process];
    if (waited < model_.parks(process)) wrong += " p" + std::to_string(process) + " should wait;";
  }
  const int unlocks = eyes_.unlocks() - unlocks_before_;
  if (unlocks != model_.unlocks()) {
    wrong += " " + std::to_string(unlocks) + " unlocked instead of " + std::to_string(model_.unlocks());
  }
  return wrong;
}

bool Director::daemon_agrees() {
  if (!eyes_.daemon_rests()) return false;
  eyes_.look();
  for (const int process : model_.processes(true)) {
    if (eyes_.waits(actors_.at(process)->pid()) - waits_before_[process] < model_.parks(process)) return false;
  }
  if (eyes_.unlocks() - unlocks_before_ < model_.unlocks()) return false;
  std::map<ino_t, LockModel::Locks> wanted;  // a file that is gone may have left its number to a new one
  for (const auto& [number, locks] : model_.locks()) {
    const auto inode = inodes_.find(number);
    if (inode == inodes_.end()) continue;
    wanted[inode->second].shared += locks.shared;
    wanted[inode->second].exclusive += locks.exclusive;
  }
  const auto held = eyes_.locks();
  for (const auto& [inode, locks] : wanted) {
    const auto seen = held.find(inode);
    if (!((seen == held.end() ? LockModel::Locks{} : seen->second) == locks)) return false;
  }
  return true;
}

// Those who have got what the model says they must wait for.
std::string Director::look_for_early_birds() const {
  for (const auto& [process, actor] : actors_) {
    if (!actor->has_spoken()) continue;
    const auto answer = actor->answer(Millis(0));
    return "p" + std::to_string(process) + " should wait" +
           (answer ? ", but returned " + error_text(answer->error) : ", but has ended");
  }
  return {};
}

::testing::AssertionResult Director::finish() {
  while (const auto command = next_to_finish()) {
    if (auto done = step(*command); !done) return done;
  }
  // What cannot be followed step by step.
  std::erase_if(actors_, [this](const auto& one) {
    const bool left = model_.waits(one.first) || has_something(one.first);
    EXPECT_TRUE(!left || one.second->kill());
    return left;
  });
  if (!soon([this] { return requests_waiting(mirror_.connection()) == 0; }))
    return failure("requests are not answered");
  for (const auto& [name, number] : model_.names()) {
    if (auto free = becomes_free(source(name)); !free) return failure(free.message());
  }
  return ::testing::AssertionSuccess();
}

bool Director::has_something(int process) const {
  return !model_.descriptors(process).empty() || !model_.mappings(process).empty();
}

// Something that the model can follow: those who have nothing to wait for close all; if that is none, whoever waits
// loses patience, or is killed.
std::optional<Command> Director::next_to_finish() const {
  std::vector<Command> all;
  const auto add = [&all](Kind kind, int process, int number = 0) {
    Command& command = all.emplace_back();
    command.kind = kind;
    command.process = process;
    command.number = number;
  };
  for (const int lock : model_.outside_locks()) add(Kind::kOutsideRelease, LockModel::kOutside, lock);
  for (const int process : model_.processes(false)) {
    if (has_something(process)) add(Kind::kCloseAll, process);
  }
  for (const int process : model_.processes(true)) add(Kind::kSignal, process);
  for (const int process : model_.processes(true)) add(Kind::kKill, process);
  for (const Command& command : all) {
    LockModel copy = model_;
    copy.apply(command);
    if (!copy.unclear()) return command;
  }
  return std::nullopt;
}

::testing::AssertionResult Director::failure(const std::string& what) {
  eyes_.look();
  auto result = ::testing::AssertionFailure() << what << "\n";
  for (const std::string& line : steps_) result << "  " << line << "\n";
  result << "expected then:\n";
  for (const LockModel::Ended& ended : model_.ended()) {
    result << "  p" << ended.process << " returns " << error_text(ended.error) << "\n";
  }
  result << model_.describe() << "the daemon's log:\n" << eyes_.recent();
  return result;
}

}  // namespace flockfs::test::model
