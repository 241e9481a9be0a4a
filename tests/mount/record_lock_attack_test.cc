// Attacks on clients' record locks: whatever happens at the same time, the mirror does what the kernel alone would do,
// and at the end nothing is left.

#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "record_lock_fixture.h"

namespace flockfs::test {
namespace {

using RecordLockAttackTest = RecordLockFixture;
INSTANTIATE_TEST_SUITE_P(Mount, RecordLockAttackTest, BothPassthroughs(), passthrough_name);

// One client of the mirror and one of a file that no mirror has to do with, which do the same.
struct Twins {
  RecordClient mirrored;
  RecordClient plain;
  std::vector<std::pair<int, int>> fds;
};

class Schedule {
 public:
  Schedule(std::string mirrored, std::string plain, unsigned seed)
      : mirrored_(std::move(mirrored)), plain_(std::move(plain)), random_(seed) {
    for (int i = 0; i < 3; ++i) twins_.push_back(std::make_unique<Twins>());
  }

  void step() {
    Twins& twins = *twins_[number(twins_.size())];
    const auto what = number(10);
    if (twins.fds.empty() || (what == 0 && twins.fds.size() < 4)) {
      const int flags = number(2) == 0 ? O_RDONLY : O_RDWR;
      twins.fds.emplace_back(twins.mirrored.open(mirrored_, flags), twins.plain.open(plain_, flags));
      return;
    }
    const auto at = number(twins.fds.size());
    const auto [fd, plain] = twins.fds[at];
    if (what == 1) {
      twins.fds.emplace_back(twins.mirrored.dup(fd), twins.plain.dup(plain));
    } else if (what == 2) {
      twins.mirrored.close(fd);
      twins.plain.close(plain);
      twins.fds.erase(twins.fds.begin() + static_cast<std::ptrdiff_t>(at));
    } else {
      lock(twins, fd, plain, what < 5);
    }
  }

 private:
  std::size_t number(std::size_t bound) { return random_() % bound; }

  void lock(Twins& twins, int fd, int plain, bool query) {
    static constexpr int kTypes[] = {F_RDLCK, F_WRLCK, F_UNLCK};
    const int type = kTypes[number(query ? 2 : 3)];
    // Of several locks in the way F_GETLK names any: so it is asked about one byte, and for the type.
    const Bytes bytes{static_cast<off_t>(number(30)), query ? 1 : static_cast<off_t>(number(12))};
    const RecordKind kind = number(2) == 0 ? kPosix : kOfd;
    const auto ask = [&](RecordClient& client, int which) {
      return query ? type_of(client.query(which, type, bytes, kind))
                   : std::to_string(client.set(which, type, bytes, kind));
    };
    const std::string wanted = ask(twins.plain, plain);
    // RELEASE follows close(2): what a close has freed may be seen as locked for a moment, never the other way round.
    std::string got = ask(twins.mirrored, fd);
    if (got != wanted && got != "0" && got != "free") {
      (void)eventually([&] { return (got = ask(twins.mirrored, fd)) == wanted; });
    }
    ASSERT_EQ(got, wanted) << (query ? "query " : "set ") << type << " " << bytes.start << " " << bytes.length << " "
                           << (kind == kOfd ? "ofd" : "posix");
  }

  static std::string type_of(const std::string& answer) { return answer.substr(0, answer.find(' ')); }

  const std::string mirrored_;
  const std::string plain_;
  std::mt19937 random_;
  std::vector<std::unique_ptr<Twins>> twins_;
};

TEST_P(RecordLockAttackTest, MirrorDoesWhatTheKernelDoes) {
  const std::string plain = folder("plain") + "/f";
  write_file(plain, std::string(100, 'x'));
  // From here on every close is told.
  RecordClient first;
  const int fd = first.open(mnt("f"), O_RDWR);
  ASSERT_EQ(first.set(fd, F_RDLCK), 0);
  ASSERT_EQ(first.set(fd, F_UNLCK), 0);
  const unsigned seed = std::random_device{}();
  SCOPED_TRACE(seed);
  for (unsigned run = 0; run < 6 && !HasFailure(); ++run) {
    Schedule schedule(mnt("f"), plain, seed + run);
    for (int i = 0; i < 400 && !HasFatalFailure(); ++i) schedule.step();
  }
  first.end();
  EXPECT_TRUE(record_becomes_free(source("f")));
}

// One thread waits for a lock through a descriptor, another one closes that descriptor; then the lock comes free.
TEST_P(RecordLockAttackTest, DescriptorIsClosedUnderAWait) {
  RecordClient warm;
  const int descriptors = mirror().descriptors();
  for (const RecordKind kind : {kPosix, kOfd}) {
    for (const bool duplicate : {false, true}) {
      ForeignRecord foreign(source("f"), F_WRLCK, {0, 10});
      Child child([&](Peer& test) {
        const int fd = ::open(mnt("f").c_str(), O_RDWR | O_CLOEXEC);
        const int copy = duplicate ? ::dup(fd) : -1;
        EXPECT_EQ(set_record(fd, F_WRLCK, {50, 10}, kind), 0);
        int error = -1;
        std::thread waiter([&] { error = set_record(fd, F_WRLCK, {}, kind, true); });
        test.say("waiting");
        test.await("close");
        ::close(fd);
        test.say("closed");
        waiter.join();
        // As the kernel has it for a file of its own; of a lock through an open file description it does not look.
        EXPECT_EQ(error, kind == kPosix ? EBADF : 0);
        test.say("ended");
        test.await("end");
        ::close(copy);
      });
      ASSERT_TRUE(child.says("waiting"));
      ASSERT_TRUE(record_waiters(source("f"), 1));
      child.say("close");
      ASSERT_TRUE(child.says("closed"));
      // The close ends what the process had.
      EXPECT_EQ(record_is_free(source("f"), F_WRLCK, {50, 10}), kind == kPosix);
      EXPECT_TRUE(record_waiters(source("f"), 1));
      foreign.release();
      ASSERT_TRUE(child.says("ended"));
      child.say("end");
      EXPECT_TRUE(child.ends_well());
      expect_nothing_left(descriptors);
    }
  }
}

// The lock comes free while the waiter is killed, its descriptor closed, or it unlocks in another thread.
TEST_P(RecordLockAttackTest, EndsOfAWaitThatMeet) {
  RecordClient warm;
  const int descriptors = mirror().descriptors();
  for (int round = 0; round < 60; ++round) {
    SCOPED_TRACE(round);
    ForeignRecord foreign(source("f"), F_WRLCK, {0, 10});
    Child child([&](Peer& test) {
      const int fd = ::open(mnt("f").c_str(), O_RDWR | O_CLOEXEC);
      std::thread waiter([&] { (void)set_record(fd, F_WRLCK, {}, kPosix, true); });
      test.await("go");
      if (round % 3 == 1) ::close(fd);
      if (round % 3 == 2) (void)set_record(fd, F_UNLCK);
      waiter.join();
    });
    ASSERT_TRUE(record_waiters(source("f"), 1));
    if (round % 2 == 0) foreign.release();
    if (round % 3 == 0) {
      child.signal(SIGKILL);
    } else {
      child.say("go");
    }
    if (round % 2 != 0) foreign.release();
    ASSERT_TRUE(child.wait());
    ASSERT_TRUE(record_becomes_free(source("f")));
  }
  expect_nothing_left(descriptors);
}

// A process that locks and unlocks at random, through descriptors of both kinds, with forked children that do the same.
void lock_at_random(const std::string& path, unsigned seed) {
  std::mt19937 random(seed);
  struct sigaction action {};
  action.sa_handler = [](int) {};
  ::sigaction(SIGALRM, &action, nullptr);
  for (int step = 0;; ++step) {
    const int fd = ::open(path.c_str(), (random() % 2 == 0 ? O_RDWR : O_RDONLY) | O_CLOEXEC);
    const int other = ::open(path.c_str(), O_RDWR | O_CLOEXEC);
    const pid_t heir = step % 4 == 0 ? ::fork() : -1;
    for (int i = 0; i < 8; ++i) {
      static constexpr int kTypes[] = {F_RDLCK, F_WRLCK, F_UNLCK};
      ::ualarm(5000, 5000);  // ends a wait; again and again, for the first may come before it
      (void)set_record(random() % 2 == 0 ? fd : other, kTypes[random() % 3],
                       {static_cast<off_t>(random() % 20), static_cast<off_t>(random() % 20)},
                       random() % 2 == 0 ? kPosix : kOfd, random() % 2 == 0);
    }
    ::ualarm(0, 0);
    if (heir == 0) ::_exit(0);
    ::close(fd);
    ::close(other);
    if (heir > 0) ::waitpid(heir, nullptr, 0);
  }
}

TEST_P(RecordLockAttackTest, KilledInEveryState) {
  RecordClient warm;
  (void)warm.open(mnt("f"), O_RDONLY);
  const int descriptors = mirror().descriptors();
  std::mt19937 random(std::random_device{}());
  for (int round = 0; round < 15; ++round) {
    std::vector<Child> children;
    for (int i = 0; i < 6; ++i) {
      const auto seed = static_cast<unsigned>(random());
      children.emplace_back([&, seed](Peer&) { lock_at_random(i < 4 ? mnt("f") : source("f"), seed); });
    }
    pause_for(Millis(static_cast<int>(random() % 60)));
    for (Child& child : children) {
      child.signal(SIGKILL);
      ASSERT_TRUE(child.killed_by(SIGKILL));
    }
    ASSERT_TRUE(record_becomes_free(source("f"))) << round;
  }
  expect_nothing_left(descriptors);
}

}  // namespace
}  // namespace flockfs::test
