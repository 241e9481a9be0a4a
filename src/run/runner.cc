#include "run/runner.h"

#include <poll.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <memory>
#include <optional>
#include <utility>

#include "base/printable.h"
#include "lock/foreign_locks.h"
#include "mirror/device.h"
#include "mirror/mirror.h"
#include "run/caller_state.h"
#include "run/command.h"
#include "run/mirror_process.h"
#include "run/place.h"
#include "run/private_namespace.h"
#include "run/report.h"
#include "run/wait_board.h"
#include "tree/source.h"

namespace flockfs {
namespace {

using std::chrono::milliseconds;

// How often the live line is drawn, and how often it is looked who is in the way of those who wait.
constexpr auto kTick = milliseconds(250);
// Nobody reads what is gone sooner.
constexpr auto kFirstLine = milliseconds(500);
// How long the mirrors have to end by themselves.
constexpr auto kStopLimit = milliseconds(600);
constexpr auto kKillLimit = milliseconds(200);

class Runner {
 public:
  Runner(const RunPlan& plan, const CallerState& caller) : plan_(plan), caller_(caller), line_(!plan.quiet) {}
  // On an error; else they have ended.
  ~Runner() { stop_mirrors(); }
  Runner(const Runner&) = delete;
  Runner& operator=(const Runner&) = delete;

  int run();

 private:
  Status prepare();
  Status mount_all();
  Status await(MirrorProcess& mirror);
  void supervise();
  void wait_for_something();
  void read_signals();
  void read_messages();
  void take(std::size_t mirror, const Message& message);
  void see_deaths();
  void note_death(std::size_t mirror);
  void tick();
  void stop_mirrors();
  bool await_end(std::size_t mirror, TimePoint limit);
  [[nodiscard]] RunTotals totals() const;
  [[nodiscard]] int exit_status() const;

  const RunPlan& plan_;
  const CallerState& caller_;
  UniqueFd signals_;
  std::optional<Place> place_;
  std::vector<MirrorProcess> mirrors_;
  std::vector<bool> died_;  // of the mirrors, while COMMAND ran
  std::optional<Command> command_;
  std::optional<int> stopped_by_;  // a signal that came before COMMAND was there
  WaitBoard waits_;
  ProcForeignLocks locks_;
  LiveLine line_;
  std::string last_text_ = live_text({}, {}, {}, LiveLine::columns());
  const TimePoint started_ = now();
  TimePoint last_tick_ = started_;
  bool look_soon_ = false;  // somebody waits of whom nobody has looked what for
};

Status Runner::prepare() {
  sigset_t all;
  ::sigfillset(&all);
  signals_ = UniqueFd(::signalfd(-1, &all, SFD_CLOEXEC | SFD_NONBLOCK));
  if (!signals_) return errno_error("cannot prepare for signals");
  std::vector<std::string> warnings;
  if (Status good = caller_.check_descriptors(plan_.sources, warnings); !good) return good;
  for (const std::string& warning : warnings) (void)say(0, "warning: " + warning);
  if (auto device = open_fuse_device(); !device) return device.error();
  auto place = Place::here(plan_.sources);
  if (!place) return place.error();
  place_ = *std::move(place);
  return enter_private_namespace();
}

// All trees are cloned before the first mount: none of them contains a mirror.
Status Runner::mount_all() {
  std::vector<std::unique_ptr<Source>> trees;
  for (const MirrorConfig& config : plan_.mirrors) {
    auto tree = Source::open(source_options(config));
    if (!tree) return tree.error();
    trees.push_back(*std::move(tree));
  }
  for (std::size_t i = 0; i < plan_.mirrors.size(); ++i) {
    const MirrorConfig& config = plan_.mirrors[i];
    const auto in_child = [this, &trees] {
      trees.clear();
      mirrors_.clear();
      signals_.reset();
    };
    auto mirror = MirrorProcess::start(config, std::move(trees[i]), plan_.log, caller_, in_child);
    if (!mirror) return mirror.error();
    mirrors_.push_back(*std::move(mirror));
    if (Status usable = await(mirrors_.back()); !usable) return usable;
    place_->add_mirror(config.source, mirrors_.back().device());
  }
  died_.assign(mirrors_.size(), false);
  return {};
}

Status Runner::await(MirrorProcess& mirror) {
  for (;;) {
    if (const auto message = mirror.receive(); message) {
      if (message->kind == Message::Kind::kReady) return {};
      if (message->kind == Message::Kind::kFailed) return Error{0, message->text};
      continue;
    }
    if (mirror.ended()) return Error{0, "the mirror of '" + escaped(mirror.source()) + "' " + mirror.death()};
    pollfd events[] = {{mirror.channel(), POLLIN, 0}, {signals_.get(), POLLIN, 0}};
    (void)::poll(events, std::size(events), -1);
    read_signals();
    if (stopped_by_) return Error{0, "stopped by signal " + std::to_string(*stopped_by_)};
  }
}

void Runner::read_signals() {
  signalfd_siginfo info{};
  while (::read(signals_.get(), &info, sizeof info) == sizeof info) {
    const auto signal = static_cast<int>(info.ssi_signo);
    if (command_) {
      command_->hand_on(signal);
      continue;
    }
    const bool ends = signal == SIGINT || signal == SIGTERM || signal == SIGHUP || signal == SIGQUIT;
    if (ends && !stopped_by_ && !caller_.ignores(signal)) stopped_by_ = signal;
  }
}

void Runner::take(std::size_t mirror, const Message& message) {
  if (message.kind == Message::Kind::kWaitBegan) {
    waits_.began(mirror, message.wait, now());
    look_soon_ = true;
  } else if (message.kind == Message::Kind::kWaitEnded) {
    waits_.ended(mirror, message.wait.number, message.waited);
  }
}

void Runner::read_messages() {
  for (std::size_t i = 0; i < mirrors_.size(); ++i) {
    while (const auto message = mirrors_[i].receive()) take(i, *message);
  }
}

// A mirror that dies takes nobody along: what COMMAND does below its SOURCE fails with ENOTCONN.
void Runner::see_deaths() {
  for (std::size_t i = 0; i < mirrors_.size(); ++i) {
    if (mirrors_[i].ended() && !died_[i]) note_death(i);
  }
}

void Runner::note_death(std::size_t mirror) {
  died_[mirror] = true;
  waits_.forget(mirror);
  line_.clear();
  (void)say(0, "the mirror of '" + escaped(mirrors_[mirror].source()) + "' " + mirrors_[mirror].death() +
                   ": nothing below it can be read any more (ENOTCONN)");
}

void Runner::wait_for_something() {
  std::vector<pollfd> events{{signals_.get(), POLLIN, 0}};
  for (const MirrorProcess& mirror : mirrors_) {
    events.push_back({mirror.ended() ? -1 : mirror.channel(), POLLIN, 0});
  }
  const bool ticks = line_.shown() || waits_.waiting() > 0;
  const auto left = std::chrono::ceil<milliseconds>(last_tick_ + kTick - now()).count();
  const bool at_once = look_soon_ && waits_.waiting() > 0;
  const int timeout = at_once ? 0 : ticks ? static_cast<int>(std::max<std::int64_t>(left, 0)) : -1;
  (void)::poll(events.data(), events.size(), timeout);
}

// Who is in the way of a wait is seen at its beginning, and again as long as it lasts.
void Runner::tick() {
  const bool due = now() - last_tick_ >= kTick;
  if (waits_.waiting() > 0 && (look_soon_ || due)) {
    std::vector<pid_t> ours;
    for (const MirrorProcess& mirror : mirrors_) ours.push_back(mirror.pid());
    waits_.look(locks_, ours);
  }
  look_soon_ = false;
  if (!due) return;
  last_tick_ = now();
  if (!line_.shown()) return;
  // While nothing happens COMMAND may be asking something: its words stay as they are.
  std::string text = live_text(totals(), waits_, last_tick_, LiveLine::columns());
  if (text != last_text_ && last_tick_ - started_ >= kFirstLine) line_.draw(text);
  last_text_ = std::move(text);
}

void Runner::supervise() {
  while (!command_->status()) {
    wait_for_something();
    read_signals();
    read_messages();
    command_->look();
    if (command_->status()) break;
    see_deaths();
    tick();
  }
  line_.clear();
}

// The mount itself goes with the namespace: until then, whoever COMMAND has left behind finds a dead mirror.
void Runner::stop_mirrors() {
  const TimePoint limit = now() + kStopLimit;
  for (MirrorProcess& mirror : mirrors_) mirror.signal(SIGTERM);
  for (std::size_t i = 0; i < mirrors_.size(); ++i) {
    if (!await_end(i, limit)) mirrors_[i].signal(SIGKILL);
  }
  for (std::size_t i = 0; i < mirrors_.size(); ++i) (void)await_end(i, limit + kKillLimit);
}

// Hears what it has to say until it has ended; false if that is not before `limit`.
bool Runner::await_end(std::size_t mirror, TimePoint limit) {
  MirrorProcess& process = mirrors_[mirror];
  for (;;) {
    while (const auto message = process.receive()) take(mirror, *message);
    if (process.ended()) {
      (void)process.death();
      return true;
    }
    const auto left = std::chrono::ceil<milliseconds>(limit - now()).count();
    if (left <= 0) return false;
    pollfd event{process.channel(), POLLIN, 0};
    (void)::poll(&event, 1, static_cast<int>(left));
  }
}

RunTotals Runner::totals() const {
  RunTotals all;
  all.bytes = 0;
  for (const MirrorProcess& mirror : mirrors_) {
    const Counters& counters = mirror.counters();
    all.opened += counters.opens;
    all.locked += counters.locked;
    all.passed += counters.passed;
    all.unlocked += counters.unlocked;
    all.refused += counters.refused;
    all.waited += counters.waited;
    all.waited_time += Duration(counters.waited_ns);
    if (mirror.passes_through()) all.bytes.reset();
    if (all.bytes) *all.bytes += counters.bytes;
  }
  return all;
}

int Runner::exit_status() const {
  const int status = *command_->status();
  const int code = WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
  if (!command_->has_run() || WIFSIGNALED(status)) return code;
  if (std::ranges::find(died_, true) != died_.end()) return code != 0 ? code : kRunFailure;
  const RunTotals all = totals();
  return plan_.fail_if_unlocked && all.refused + all.unlocked > 0 ? kRunUnlocked : code;
}

int Runner::run() {
  Status ready = prepare();
  if (ready) ready = mount_all();
  if (!ready) return stopped_by_ ? 128 + *stopped_by_ : say(kRunFailure, ready.error().message());
  read_signals();
  if (stopped_by_) return 128 + *stopped_by_;
  auto command = Command::start(plan_.command, *place_, caller_);
  if (!command) return say(kRunFailure, command.error().message());
  command_.emplace(*std::move(command));
  supervise();
  read_messages();
  see_deaths();
  stop_mirrors();
  // Those that were dying when COMMAND ended, which may have noticed.
  for (std::size_t i = 0; i < mirrors_.size(); ++i) {
    if (!died_[i] && mirrors_[i].failed()) note_death(i);
  }
  if (!plan_.quiet && command_->has_run()) {
    const std::string summary = summary_text(totals(), waits_);
    (void)std::fputs(summary.c_str(), stderr);
  }
  return exit_status();
}

}  // namespace

int run(const RunPlan& plan, const CallerState& caller) { return Runner(plan, caller).run(); }

int say(int status, const std::string& text) {
  (void)std::fprintf(stderr, "flockfs-run: %s\n", text.c_str());
  return status;
}

}  // namespace flockfs
