// Looks at the processes that wait for a client of the mirror: whether one waits for itself (DESIGN 1.6), and what it
// has, for whoever waits for that. One thread at a time, of the pool, or the keeper if there is none.

#include <algorithm>
#include <map>
#include <utility>

#include "lock/wait_room.h"

namespace flockfs {

namespace {

// A descriptor can be handed to a process that waits, which changes nothing here: looked at again, less and less often.
constexpr Duration kLookAgainAfter = std::chrono::milliseconds(1);
// However often what was seen was out of date: by then it has waited.
constexpr Duration kLongestFirstLook = std::chrono::milliseconds(20);
constexpr Duration kFirstExamPause = std::chrono::milliseconds(20);
constexpr Duration kLongestExamPause = std::chrono::seconds(5);

}  // namespace

// Whom only somebody outside is in the way of can neither join anything nor wait in a circle that is seen from here.
bool WaitRoom::worth_examining(const Wait& wait) {
  if (wait.request.alone || wait.process == 0) return false;
  const LockRecord* const record = table_.find(wait.request.file);
  return record != nullptr && (!record->holders().empty() || record->queue().size() > 1);
}

void WaitRoom::schedule_exam(const WaitPtr& wait, TimePoint at) {
  if (wait->next_exam) exams_.erase({*wait->next_exam, wait->id});
  wait->next_exam = at;
  exams_.emplace(at, wait->id);
  if (!examining_) wake_keeper(at);  // whoever examines looks here again before it ends
}

// What this process has of the file has changed: others of its threads may be helped by that.
void WaitRoom::examine_again(LockRecord& record, pid_t process, Aftermath& after) {
  if (process == 0 || record.queue().empty()) return;
  const TimePoint now = clock_.now();
  for (const QueuedRequest& request : record.queue()) {
    if (request.owner.tgid != process || request.want != Want::kLock) continue;
    const WaitPtr& wait = waits_.at(request.wait_id);
    if (wait->request.alone) continue;
    schedule_exam(wait, now);
    after.examine = true;
  }
}

// A lock that is the only one left is the one of which a process has a part that did not open it.
void WaitRoom::examine_heirs(LockRecord& record, Aftermath& after) {
  if (record.holders().size() != 1) return;
  for (const QueuedRequest& request : record.queue()) {
    const WaitPtr& wait = waits_.at(request.wait_id);
    if (!wait->is_open() || !std::binary_search(wait->has.begin(), wait->has.end(), wait->number)) continue;
    schedule_exam(wait, clock_.now());
    after.examine = true;
  }
}

void WaitRoom::note_files_of(Wait& wait, std::vector<FileNumber> has) {
  for (const FileNumber file : wait.has) {
    const auto processes = have_.find(file);
    const auto process = processes->second.find(wait.process);
    if (--process->second == 0) processes->second.erase(process);
    if (processes->second.empty()) have_.erase(processes);
  }
  wait.has = std::move(has);
  for (const FileNumber file : wait.has) ++have_[file][wait.process];
}

void WaitRoom::start_examining() {
  {
    MutexLock lock(mutex_);
    if (examining_ || exams_.empty() || exams_.begin()->first > clock_.now()) return;
    examining_ = true;
    ++jobs_;
  }
  if (pool_.run([this] {
        examine_due();
        MutexLock lock(mutex_);
        if (--jobs_ == 0) no_jobs_.notify_all();
      })) {
    return;
  }
  MutexLock lock(mutex_);  // the keeper does it
  examining_ = false;
  if (!exams_.empty()) wake_keeper(exams_.begin()->first);
  if (--jobs_ == 0) no_jobs_.notify_all();
}

void WaitRoom::examine_due() {
  for (;;) {
    WaitPtr wait;
    {
      MutexLock lock(mutex_);
      const TimePoint now = clock_.now();
      if (exams_.empty() || exams_.begin()->first > now) {
        examining_ = false;
        if (!exams_.empty()) wake_keeper(exams_.begin()->first);
        return;
      }
      wait = waits_.at(exams_.begin()->second);
      wait->exam_pause = std::clamp(wait->exam_pause * 2, kFirstExamPause, kLongestExamPause);
      schedule_exam(wait, now + wait->exam_pause);
    }
    examine(wait);
  }
}

void WaitRoom::examine(const WaitPtr& wait) {
  const LockRequest& request = wait->request;
  if (wait->process == 0 || wait->internal) return;
  {
    MutexLock lock(mutex_);
    const LockRecord* const record = table_.find(request.file);
    // Somebody outside is in the way; what the process has is known, if anybody should wait for that.
    if (wait->examined && (record == nullptr || record->holders().empty())) return;
  }
  const std::uint64_t seen = last_change(request.file);
  const FileNumber number = holders_.number_of(request.file);
  const std::map<FileNumber, Holding> has = holders_.holdings(wait->process).value_or(std::map<FileNumber, Holding>{});
  const auto own = has.find(number);
  Aftermath after;
  {
    MutexLock lock(mutex_);
    wait->number = number;
    std::vector<FileNumber> files;
    for (const auto& [file, holding] : has) {
      if (holding.any() && !holding.in_doubt) files.push_back(file);
    }
    if (wait->state != Wait::State::kQueued) return;
    note_files_of(*wait, std::move(files));
    const LockRecord* const record = table_.find(request.file);
    if (wait->is_open() && record != nullptr && !record->holders().empty()) {
      const TimePoint now = clock_.now();
      if (record->changed_at != seen) {  // what was seen may be out of date
        schedule_exam(wait, now + kLookAgainAfter);
        lock.unlock();
        if (now - wait->since > kLongestFirstLook) say_that_it_waits(wait);
        return;
      }
      wait->trying = !wait->examined;
      const Holding holding = own == has.end() ? Holding{} : own->second;
      if (reopen_ == Reopen::kJoin) {
        (void)join(wait, holding, after);
      } else if (waits_for_own_thread(*wait, holding)) {
        cancel(wait, WaitEnd::kDeadlock, after);
      }
    }
    wait->examined = true;
  }
  see_to(std::move(after));
  say_that_it_waits(wait);
  look_for_deadlock(wait);
}

// The thread that waits has opened what it waits for, and its process has that still: only another thread could close
// it, and Legato's threads do not (DESIGN 1.6).
bool WaitRoom::waits_for_own_thread(const Wait& wait, const Holding& holding) {
  if (wait.state != Wait::State::kQueued || wait.asked) return false;
  const LockRequest& request = wait.request;
  LockRecord* const record = table_.find(request.file);
  if (record == nullptr || holding.descriptions < record->open_members_of(request.owner.tgid)) return false;
  bool own = false;
  for (const Holder& holder : record->holders()) {
    if (holder.state != Holder::State::kHeld || !in_the_way(holder.mode, request.mode)) continue;
    holder.for_each_member([&](const Member& member) {
      own |= member.owner.tgid == request.owner.tgid && member.tid == request.tid && !member.closed;
    });
  }
  return own;
}

}  // namespace flockfs
