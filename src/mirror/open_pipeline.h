#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string_view>
#include <vector>

#include "lock/lock_engine.h"
#include "mirror/core.h"
#include "mirror/inode_counts.h"
#include "mirror/lock_file_waits.h"
#include "mirror/request.h"
#include "mirror/retries.h"
#include "mirror/slow_opens.h"
#include "tree/make.h"

namespace flockfs {

class WatchedWait;
struct Subject;

class AnsweredCall;
enum class Purpose : std::uint8_t;

// The way of every open: the source's file without O_TRUNC; its lock, tried or waited for; is it still the file of that
// name; truncation if asked; what the kernel must forget; the answer. Nothing happens before the lock is held, and no
// caller of these functions ever waits for one: an open that must wait is answered later by another thread.
// Thread-safe.
class OpenPipeline {
 public:
  // All outlive this.
  OpenPipeline(Core& core, LockEngine& locks, SlowOpens& slow) : core_(core), locks_(locks), slow_(slow) {}

  // OPEN.
  void open(Request request, InodePtr inode, int flags);

  // CREATE: a new file that appears locked. Never waits; a name that turned up meanwhile is ESTALE, so that the kernel
  // looks again and sends OPEN.
  void create(Request request, const InodePtr& parent, const char* name, mode_t mode, int flags);

  // TMPFILE: a file without a name, locked.
  void create_unnamed(Request request, const InodePtr& parent, mode_t mode, int flags);

  // truncate(2) by path: a write, so under the exclusive lock. The kernel holds the inode meanwhile, so whoever has the
  // lock through this mirror could not finish while we waited: EAGAIN. A holder outside is waited for, five seconds at
  // most and until a client opens the file (DESIGN 4.2). `answer` is called once, perhaps by another thread.
  void truncate(std::shared_ptr<Request> request, const InodePtr& inode, off_t size,
                std::function<void(Status)> answer);

  // A lookup by a thread, which may be the one between the two tries of an open.
  Result<Found> lookup(pid_t tid, const InodePtr& parent, const char* name);

  // GETATTR was answered ESTALE. If it was for the permission check of an open, that was its first try already.
  void attributes_were_stale(pid_t tid, const InodePtr& inode);

  // The kernel sent INTERRUPT for an open that waits.
  void interrupt_lock(WaitId id) { locks_.interrupt(id); }
  void interrupt_open(std::uint64_t id) { slow_.interrupt(id); }

  // Has the kernel forget the attributes that it was told, if they are others by now.
  void forget_attributes(Inode& inode, const struct stat& st);

  // Whether an open of the inode takes a lock.
  [[nodiscard]] bool selects(const Inode& inode) const { return decide(inode).selected; }

  // Ends all waits with ENOTCONN, now and from now on.
  void stop();

  // Has the kernel's INTERRUPT for a request end the slow open `id`.
  static void interrupt_open_by(const Request& request, SlowOpens::Id id);

 private:
  struct Task;
  class Parked;

  [[nodiscard]] FilterDecision decide(const Inode& inode) const;
  static Purpose purpose_of(pid_t tid, int flags);
  void deny(Request& request, int error) const;
  void tell_watcher(WatchedWait& wait, const Subject& subject) const;
  void wait_for_slot(Task task);
  void refuse(Task task);
  [[nodiscard]] std::optional<TimePoint> deadline_of(const Task& task) const;
  [[nodiscard]] bool tries_once(const Task& task) const;
  void try_again(Task task, LockRequest wanted);
  void timed_out(Task task);
  void unsupported(Task task, int error);
  void open_unlocked(Task task, std::string_view reason);
  void open_now(Task task);
  void open_slowly(Task task, std::optional<TimePoint> deadline);
  void opened(Task task, int error, UniqueFd fd);
  void lock(Task task, UniqueFd fd);
  void answer_for_attributes(Task task, UniqueFd fd);
  void park(Task task, LockRequest wanted);
  void granted(Task task, LockOutcome outcome);
  bool take_lock_files(Task& task, std::shared_ptr<OpenFile>& file);
  void wait_for_lock_file(Task task, std::vector<Inode::Name> names, const std::string& path);
  void lock_file_wait_ended(Task task, LockFileWaits::End end);
  Status take_lock_file_of_new(const InodePtr& parent, const char* name, const Caller& caller, LockFileHold& hold);
  [[nodiscard]] bool wants_lock_file(const Hold& hold) const;
  void lock_file_refused(const Inode& parent, const char* name, pid_t process, const Error& error);
  Status take_lock_files_for(const Inode& inode, const Caller& caller, LockFileHold& hold);
  void finish(Task task, std::shared_ptr<OpenFile> file);
  void finish_after_truncation(Task task, std::shared_ptr<OpenFile> file);
  void finish_now(Task task, std::shared_ptr<OpenFile> file);
  static int truncate_as_asked(const Task& task, int fd, struct stat& st);
  [[nodiscard]] bool plainly_leads_here(Inode& inode, struct stat& st, UniqueFd& path) const;
  [[nodiscard]] bool look_by_name(const Inode::Name& name, const Inode& inode, struct stat& st, UniqueFd& path) const;
  [[nodiscard]] bool leads_here(pid_t tid, const InodePtr& inode, const struct stat& st);
  [[nodiscard]] std::optional<Retries::Second> second_try(pid_t tid, const Inode& inode, LockMode mode);
  void answer(Task task, const std::shared_ptr<OpenFile>& file, const struct stat& st, const UniqueFd& path);
  void answer_created(Request request, const InodePtr& parent, const char* name, const FilterDecision& decision,
                      UniqueFd fd, const std::shared_ptr<OpenFile>& file);
  // `unlocked`: why, if it has no lock although the filter selected it.
  void note_granted(OpenFile& file, const FilterDecision& decision, std::string_view unlocked, Duration waited);
  struct Creation;
  enum class Origin : std::uint8_t { kFound, kMade };
  [[nodiscard]] BeforeVisible locker(const Creation& creation, Origin origin, Hold& hold, LockFileHold& lock_files);
  Result<UniqueFd> make(const Creation& creation);
  Result<UniqueFd> make_or_open(const Creation& creation);
  struct Truncation;
  enum class MayWait : std::uint8_t { kNo, kYes };
  Status truncate_patiently(Truncation& truncation);
  void say_waiting(Truncation& truncation) const;
  Status try_truncate(Truncation& truncation, MayWait may_wait);
  void answer_truncation(const std::shared_ptr<Truncation>& truncation, Status done);
  void let_go(Truncation& truncation, const AnsweredCall& call);
  Status cut(const Truncation& truncation, int fd);
  Status open_for(Truncation& truncation, MayWait may_wait);
  Status open_slowly_for(Truncation& truncation);
  [[nodiscard]] bool in_use(const Inode& inode, Duration waited, int looks) const;
  enum class Joining : std::uint8_t { kNo, kYes };  // looks at /proc: not for FUSE workers
  Status take_lock(int fd, LockMode mode, pid_t process, Hold& hold, Origin origin, Joining joining = Joining::kNo);
  void prepare_info(fuse_req_t request, const std::shared_ptr<OpenFile>& file, const struct stat& st,
                    const UniqueFd& path, fuse_file_info& info);

  Core& core_;
  LockEngine& locks_;
  SlowOpens& slow_;
  Retries retries_;
  InodeCounts waiting_;     // opens that wait
  InodeCounts truncating_;  // truncations by path whose clients have not taken the answer in
};

}  // namespace flockfs
