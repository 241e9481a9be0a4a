#pragma once

#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "model/command.h"

namespace flockfs::test::model {

enum class Mode { kShared, kExclusive };

// What the contract says of opens and locks (DESIGN 1), with nonblock=try, for processes of which one thread makes all
// calls. Pure, and a value: a command can be tried on a copy.
//
// Where the daemon cannot know what a process has (/proc shows that a descriptor is of a file, not which open it comes
// from) the contract asks for nothing in particular: a command that would make it matter leaves the model unclear(),
// and is not to be carried out. These are
// - opens that meet a lock, by a process that has kept some of its own opens of the file and given others away, or that
//   has inherited some while the file is held by several, or whose part in a lock is given up at the moment for a
//   flock(2) call that waits;
// - a flock(2) call through an open file description on which another one waits, or whose lock is given up; through one
//   that shares its lock with opens of other processes which have further locks of the file; one that waits and would
//   give up what an open waits to have made exclusive;
// - the end of an open file description of a file of which another one is mapped: a mapping may be of any of them;
// - a mapping through a descriptor for reading that was handed over: it may be gone before it is noticed (README);
// - what lets several opens look up their names anew at once: which of them comes first is not known;
// - truncate(2) of a file that somebody outside has locked: it ends by the clock.
// Circles through what somebody else opened, or through flock(2) calls, are refused where they are certain, which
// depends on the same: left out, too (DeadlockTest has them).
class LockModel {
 public:
  static constexpr int kOutside = 0;  // "process" of what happens on the source

  struct Ended {
    int process = 0;
    int error = 0;
  };
  struct Locks {
    int shared = 0;
    int exclusive = 0;
    bool operator==(const Locks&) const = default;
  };

  // Processes and files that are there at the start, with nothing open. `threaded` are those of the processes that have
  // a thread which never waits: for all that is known, it may close what they have.
  LockModel(const std::vector<int>& processes, const std::set<int>& threaded, const std::vector<std::string>& names);

  void apply(const Command& command);

  // The last command was none to be carried out.
  [[nodiscard]] bool unclear() const { return unclear_; }
  // The calls that ended by the last command, its own among them unless that waits.
  [[nodiscard]] const std::vector<Ended>& ended() const { return ended_; }
  [[nodiscard]] bool waits(int process) const { return request_of(process) != nullptr; }
  // How often a call of the process has begun to wait: what it could join, or have at once, it did not wait for.
  [[nodiscard]] int parks(int process) const { return processes_.at(process).parks; }
  // How many locks of answered opens, and of truncations, have been given back.
  [[nodiscard]] int unlocks() const { return unlocks_; }
  // What the mirror holds of each file on the source.
  [[nodiscard]] std::map<int, Locks> locks() const;
  [[nodiscard]] const std::map<std::string, int>& names() const { return names_; }

  // Whether the process must do nothing in a schedule that comes soon.

  // For whoever chooses commands.
  [[nodiscard]] std::vector<int> processes(bool waiting) const;
  [[nodiscard]] std::vector<int> descriptors(int process) const;
  [[nodiscard]] std::vector<int> mappings(int process) const;
  [[nodiscard]] bool readable(int process, int number) const;
  [[nodiscard]] bool writable(int process, int number) const;
  [[nodiscard]] std::vector<int> outside_locks() const;
  // Of the calls that wait, and what they wait for: for messages.
  [[nodiscard]] std::string describe() const;

 private:
  struct Description {
    int file = 0;
    int opener = 0;
    int group = 0;
    int flags = 0;
    bool handed_over = false;
    std::optional<Mode> flocked{};
  };
  // A lock of the kernel's and the open file descriptions that share it.
  struct Group {
    int id = 0;
    Mode mode = Mode::kShared;
    Mode opened = Mode::kShared;  // what its opens need
    bool given_up = false;        // for a flock(2) that waits, or has waited in vain
    std::vector<int> members{};
  };
  enum class Want { kLock, kUpgrade, kFlock, kRegain };
  struct Request {
    int id = 0;
    int process = 0;  // none for kRegain
    Want want = Want::kLock;
    Mode mode = Mode::kShared;
    int group = 0;        // kUpgrade, kRegain
    int description = 0;  // kFlock
    Command open{};
    bool second = false;  // its name led to another file when it had the lock, and was looked up anew
    bool noted = false;   // as a wait
  };
  struct File {
    std::vector<Group> groups{};
    std::vector<Request> queue{};
    std::vector<Request> turns{};  // flock(2) calls that wait for others of their own lock
    std::map<int, Mode> outside{};
  };
  struct Process {
    std::map<int, int> descriptors{};  // number to open file description
    std::map<int, int> mappings{};
    int parks = 0;
    bool threaded = false;
  };

  // lock_model.cc: what commands do.
  void carry_out(const Command& command);
  void note_waits();
  void carry_out_by_descriptor(const Command& command);
  void end(int process, int error) { ended_.push_back({process, error}); }
  void kill(int process);
  void close_all(int process);
  void dropped(int description);
  void cancel(int process);
  void flock(const Command& command);
  void try_flock(Description& description, Mode mode, int process);
  void truncate(const Command& command);
  void try_outside(const Command& command);

  // lock_model_open.cc: the way of an open.
  void start_open(Request request);
  void create(const Request& request);
  void park(int number, Request request);
  void try_once(int number, const Request& request);
  void grant_open(int number, const Request& request, int group);
  int add_group(int number, Mode mode);
  Group* own_group(int number, int process, Mode mode);

  // lock_model_queue.cc: who is next.
  void settle();
  bool advance(int number);
  bool take_head(int number);
  bool take_turn(int number);
  bool give_up_for(int number, std::size_t turn);
  [[nodiscard]] static bool compatible(const File& file, Mode mode);
  [[nodiscard]] static bool free_outside(const File& file, Mode mode);
  [[nodiscard]] bool belongs_to(const Group& group, int process) const;
  [[nodiscard]] bool held_only_by(const File& file, int process, int also) const;
  [[nodiscard]] static bool joins_at_once(const Group& group, Mode mode);
  void merge(File& file, int into, int process);
  [[nodiscard]] bool flock_conflicts(const File& file, const Group& group, int description, Mode mode) const;
  int flock_owner(const File& file, const Group& group);
  [[nodiscard]] static Group* find(File& file, int group);
  [[nodiscard]] const Request* request_of(int process) const;
  [[nodiscard]] bool has(int process, int description) const;
  [[nodiscard]] bool mapped(int number) const;
  [[nodiscard]] std::set<int> had_by(int process, int number) const;
  [[nodiscard]] std::set<int> opened_by(int process, int number) const;

  // lock_model_circles.cc: waits that can never end.
  enum class View {
    kTrue,       // whoever has a descriptor or a mapping is in the way
    kSeen,       // whoever opened is, if it is known to have that still
    kSeenMaybe,  // or may be thought to
  };
  struct Node {
    const Request* request = nullptr;
    std::set<int> holders{};
    std::optional<std::size_t> ahead{};
  };
  [[nodiscard]] std::vector<Node> graph(View view) const;
  void add_holders(const File& file, int number, Node& node, View view) const;
  [[nodiscard]] bool thought_to_hold(int process, int number, View view) const;
  [[nodiscard]] std::vector<bool> stuck_among(const std::vector<Node>& nodes) const;
  [[nodiscard]] bool leads_to_itself(const std::vector<Node>& nodes, const std::vector<bool>& stuck,
                                     std::size_t start) const;
  [[nodiscard]] std::set<int> in_circles(View view) const;
  void refuse_circles(int first_new);

  std::map<int, File> files_;
  std::map<int, Description> descriptions_;
  std::map<int, Process> processes_;
  std::map<std::string, int> names_;
  std::vector<Ended> ended_;
  int last_id_ = 0;
  int unlocks_ = 0;
  bool unclear_ = false;
  int looked_again_ = 0;  // by the last command
};

}  // namespace flockfs::test::model
