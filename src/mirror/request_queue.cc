#include "mirror/request_queue.h"

#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdio>
#include <string_view>
#include <utility>

#include "base/clock.h"
#include "base/processors.h"
#include "base/unique_fd.h"

namespace flockfs {
namespace {

// Requests keep coming when there is no more than this between two of them.
constexpr auto kSoon = std::chrono::microseconds(100);
// Then a thread looks for the next one until none has come to anybody for so long, before it sleeps: with several of a
// client's requests on their way at once, its sleep and its wake-up cost more than the request (docs/PERFORMANCE.md).
constexpr auto kLook = std::chrono::microseconds(40);
// Looks for which it leaves a request to the others.
constexpr unsigned kLeave = 4;

// How many take requests at least while they keep coming. One would do for a single client, but not for two that do
// not wait for one another.
constexpr unsigned kFewest = 2;
// How often one who stands by looks at those who take.
constexpr auto kTick = std::chrono::milliseconds(2);
// After so many such looks that found one more of them than needed, that one stands by too.
constexpr unsigned kCalm = 4;
// After so long without a request nobody stands by any longer.
constexpr auto kRest = std::chrono::milliseconds(10);

// Whether a thread of ours sleeps where a signal would wake it.
bool asleep(pid_t tid) {
  char path[48];
  std::snprintf(path, sizeof path, "/proc/self/task/%d/stat", tid);
  const UniqueFd fd(::open(path, O_RDONLY | O_CLOEXEC));
  std::array<char, 128> bytes{};
  const ssize_t got = fd ? ::read(fd.get(), bytes.data(), bytes.size()) : -1;
  if (got <= 0) return false;
  const std::string_view text(bytes.data(), static_cast<std::size_t>(got));
  const std::size_t state = text.rfind(") ");  // the name before it has no blanks and no parentheses
  return state != std::string_view::npos && text.substr(state + 2).starts_with('S');
}

}  // namespace

bool RequestQueue::Taker::idle() const {
  const pid_t tid = tid_;
  const Doing doing = doing_;
  if (tid == 0 || doing == Doing::kLooking || doing == Doing::kStandingBy) return true;
  const std::uint64_t before = done_;
  const auto reads = [this] { return doing_ == Doing::kReading; };
  return reads() && asleep(tid) && reads() && done_ == before;
}

void RequestQueue::set_takers(unsigned count) {
  for (unsigned i = 0; i < count; ++i) takers_.emplace_back();
  count_ = count;
  limit_ = count;
  taking_ = count;
  may_look_ = has_several_processors();
  may_stand_by_ = count > kFewest;
}

bool RequestQueue::too_many() const {
  return taking_.load(std::memory_order_relaxed) > limit_.load(std::memory_order_relaxed);
}

void RequestQueue::begin(Taker& taker) { taker.tid_ = ::gettid(); }

int RequestQueue::take(Taker& taker, fuse_buf* buffer) {
  do {
    if (too_many()) stand_by(taker);
  } while (keep_coming_ && may_look_ && !look(taker));
  taker.doing_ = Taker::Doing::kReading;
  const int got = fuse_session_receive_buf(session_, buffer);
  taker.doing_ = Taker::Doing::kWorking;
  if (got > 0) note_arrival();
  return got;
}

void RequestQueue::end(Taker& taker) {
  taker.tid_ = 0;
  all_take();
}

void RequestQueue::all_take() {
  MutexLock lock(mutex_);
  may_stand_by_ = false;
  limit_ = count_;
  changed_.notify_all();
}

void RequestQueue::note_arrival() {
  const std::int64_t at = now().time_since_epoch().count();
  keep_coming_ = at - last_arrival_.exchange(at) < Duration(kSoon).count();
}

Duration RequestQueue::since_arrival() const {
  return now() - TimePoint(Duration(last_arrival_.load(std::memory_order_relaxed)));
}

// True when there is, or was, a request to read, or none has come for a while; false when the taker may have to stand
// by.
//
// Between two looks the processor is given to whoever wants it. On that of a client that has just gone to sleep for its
// answer it is one of us who gets it, and who can answer without waking another processor. So a request that comes
// while we look is left to the others for a few looks, where that pays.
bool RequestQueue::look(Taker& taker) {
  taker.doing_ = Taker::Doing::kLooking;
  pollfd ready{fuse_session_fd(session_), POLLIN, 0};
  unsigned seen = kLeave;  // what is there at once has waited already
  const TimePoint begin = now();
  do {
    if (::poll(&ready, 1, 0) == 0) {
      seen = 0;
      note_none(taker);
    } else if (seen++ >= kLeave || !leave_.load(std::memory_order_relaxed)) {
      return true;
    }
    if (too_many()) return false;
    ::sched_yield();
  } while (now() - begin < kLook || since_arrival() < kLook);
  return true;
}

void RequestQueue::note_none(Taker& taker) {
  taker.found_none_.store(true, std::memory_order_relaxed);
  if (!may_stand_by_ || limit_.load(std::memory_order_relaxed) != count_ || since_arrival() > kSoon) return;
  // Requests keep coming and are dealt with in time: one is spared, who sees who else can be.
  unsigned all = count_;
  limit_.compare_exchange_strong(all, count_ - 1);
}

// Returns when the taker is needed. As long as anybody stands by, one of them is the watch; so it goes last.
void RequestQueue::stand_by(Taker& taker) {
  MutexLock lock(mutex_);
  if (!may_stand_by_) limit_ = count_;
  if (taking_ <= limit_) return;
  taker.doing_ = Taker::Doing::kStandingBy;
  --taking_;
  while (may_stand_by_) {
    const bool last = taking_ + 1 == count_;
    if (taking_ < limit_ && (watch_ != &taker || last)) break;
    if (watch_ == nullptr) watch_ = &taker;
    if (watch_ != &taker) {
      changed_.wait(mutex_);
      continue;
    }
    const TimePoint tick = now() + kTick;
    changed_.wait_until(mutex_, tick);
    if (now() >= tick) adapt();
  }
  ++taking_;
  if (watch_ == &taker) watch_ = nullptr;
}

void RequestQueue::adapt() {
  compare();
  const unsigned limit = limit_;
  if (!somebody_finds_none()) {
    calm_ = 0;
    limit_ = std::min(limit + 1, count_);
    changed_.notify_one();
  } else if (since_arrival() > kRest) {
    limit_ = count_;
    changed_.notify_all();
  } else if (limit > kFewest && ++calm_ >= kCalm) {
    calm_ = 0;
    limit_ = limit - 1;
  }
}

// Whether it pays to leave requests to one another: yes where an idle processor is slow to wake, as in a virtual
// machine that halts it at once; no where it waits for work itself.
void RequestQueue::compare() {
  std::uint64_t done = 0;
  for (const Taker& taker : takers_) done += taker.done_;
  const TimePoint at = now();
  // After a rest it would be the client that is compared.
  if (at - counted_at_ < kRest) leave_ = ways_.turn(done - counted_, at - counted_at_);
  counted_ = done;
  counted_at_ = at;
}

// Whether anybody found the queue empty since the last look, or has been asleep in read(2) since.
bool RequestQueue::somebody_finds_none() {
  bool found = false;
  for (Taker& taker : takers_) {
    const std::uint64_t done = taker.done_;
    const bool reads = taker.tid_ != 0 && taker.doing_ == Taker::Doing::kReading;
    if (taker.found_none_.exchange(false, std::memory_order_relaxed) || (reads && done == taker.seen_)) found = true;
    taker.seen_ = done;
  }
  return found;
}

}  // namespace flockfs
