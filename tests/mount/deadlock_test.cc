// DESIGN 1.7: opens that would wait for each other for ever are refused, and no others.

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <csignal>
#include <string>
#include <thread>
#include <vector>

#include "harness/descriptor_passing.h"
#include "harness/mirror_test.h"

namespace flockfs::test {
namespace {

class DeadlockTest : public PassthroughTest {
 protected:
  static constexpr int kMost = 5;
  void SetUp() override {
    for (int i = 0; i < kMost; ++i) write_file(source(name(i)), "contents");
    mount();
  }
  static std::string name(int i) { return "f" + std::to_string(i); }

  // Opens one file, says so, and when told opens another; says how that went and keeps what it has until told.
  Child holder(int first, int flags, int second, int second_flags) {
    return Child([=, this](Peer& test) {
      const UniqueFd one = open_file(mnt(name(first)), flags);
      test.say("has one");
      test.await("go on");
      const UniqueFd two(::open(mnt(name(second)).c_str(), second_flags | O_CLOEXEC));
      test.say(two ? "has both" : std::to_string(errno));
    });
  }
};
INSTANTIATE_TEST_SUITE_P(Mount, DeadlockTest, BothPassthroughs(), passthrough_name);

TEST_P(DeadlockTest, OpenThatClosesACircleIsRefusedAndTheOthersGoOn) {
  for (int length = 2; length <= kMost; ++length) {
    std::vector<Child> all;
    for (int i = 0; i < length; ++i) all.push_back(holder(i, O_RDWR, (i + 1) % length, O_RDWR));
    for (Child& one : all) ASSERT_TRUE(one.says("has one"));
    for (int i = 0; i < length - 1; ++i) {
      all[static_cast<std::size_t>(i)].say("go on");
      ASSERT_TRUE(mirror().waits(all[static_cast<std::size_t>(i)].pid()));
    }
    all.back().say("go on");
    EXPECT_TRUE(all.back().says(std::to_string(EDEADLK))) << length;
    EXPECT_TRUE(all.back().ends_well());
    for (int i = length - 2; i >= 0; --i) EXPECT_TRUE(all[static_cast<std::size_t>(i)].says("has both")) << i;
    all.clear();  // whoever meets a lock that is on its way out has a wait in the log
    for (int i = 0; i < length; ++i) EXPECT_TRUE(becomes_free(source(name(i))));
  }
  EXPECT_TRUE(log().wait_for_count({.event = "deadlock"}, 4));
}

TEST_P(DeadlockTest, TwoReadersThatBothReopenForWriting) {
  Child one = holder(0, O_RDONLY, 0, O_RDWR);
  Child other = holder(0, O_RDONLY, 0, O_RDWR);
  ASSERT_TRUE(one.says("has one"));
  ASSERT_TRUE(other.says("has one"));
  one.say("go on");
  ASSERT_TRUE(mirror().waits(one.pid()));
  other.say("go on");
  EXPECT_TRUE(other.says(std::to_string(EDEADLK)));
  EXPECT_TRUE(one.says("has both"));
}

TEST_P(DeadlockTest, ThreadThatRunsMayEndItSoNobodyIsRefused) {
  Child one = holder(0, O_RDWR, 1, O_RDWR);
  Child other([&](Peer& test) {
    UniqueFd held = open_file(mnt(name(1)), O_RDWR);
    test.say("has one");
    test.await("go on");
    std::thread closing([&] {
      test.await("close");
      held.reset();
    });
    const UniqueFd two(::open(mnt(name(0)).c_str(), O_RDWR | O_CLOEXEC));
    closing.join();
    test.say(two ? "has both" : std::to_string(errno));
  });
  ASSERT_TRUE(one.says("has one"));
  ASSERT_TRUE(other.says("has one"));
  other.say("go on");
  ASSERT_TRUE(mirror().waits(other.pid()));
  one.say("go on");
  ASSERT_TRUE(mirror().waits(one.pid()));
  EXPECT_TRUE(eventually([&] { return log().text().find("refused=no") != std::string::npos; }));
  EXPECT_TRUE(one.silent(Millis(200)));
  other.say("close");
  EXPECT_TRUE(one.says("has both"));
  EXPECT_TRUE(other.says("has both"));
}

TEST_P(DeadlockTest, WhatAChildHoldsNowIsNoCircleOfTheParent) {
  Child one = holder(0, O_RDWR, 1, O_RDWR);
  Child other([&](Peer& test) {
    UniqueFd held = open_file(mnt(name(1)), O_RDWR);
    Child keeper([](Peer& parent) { parent.await("close"); });
    held.reset();
    test.say("has one");
    test.await("go on");
    // Its only thread waits, and what `one` waits for is its child's.
    const UniqueFd two(::open(mnt(name(0)).c_str(), O_RDONLY | O_CLOEXEC));
    test.say(two ? "has both" : std::to_string(errno));
    keeper.say("close");
    EXPECT_TRUE(keeper.ends_well());
  });
  ASSERT_TRUE(one.says("has one"));
  ASSERT_TRUE(other.says("has one"));
  one.say("go on");
  ASSERT_TRUE(mirror().waits(one.pid()));
  other.say("go on");
  ASSERT_TRUE(mirror().waits(other.pid()));
  EXPECT_TRUE(other.silent(Millis(300)));
  EXPECT_TRUE(one.silent());
  one.signal(SIGKILL);
  EXPECT_TRUE(other.says("has both"));
}

// Who opened it has closed it, so a child that inherited it is waited for.
TEST_P(DeadlockTest, CircleThroughAnInheritedDescriptorIsRefused) {
  for (const bool heir_first : {true, false}) {
    Child one = holder(1, O_RDWR, 0, O_RDWR);
    Child opener([&](Peer& test) {
      UniqueFd held = open_file(mnt(name(0)), O_RDWR);
      Child heir([&](Peer& parent) {
        parent.await("go on");
        const UniqueFd two(::open(mnt(name(1)).c_str(), O_RDWR | O_CLOEXEC));
        parent.say(two ? "has both" : std::to_string(errno));
      });
      held.reset();
      test.say(std::to_string(heir.pid()));
      test.await("go on");
      heir.say("go on");
      test.say(heir.hear().value_or("nothing"));
      EXPECT_TRUE(heir.ends_well());
    });
    ASSERT_TRUE(one.says("has one"));
    const pid_t heir = std::stoi(opener.hear().value_or("0"));
    Child& first = heir_first ? opener : one;
    Child& second = heir_first ? one : opener;
    first.say("go on");
    ASSERT_TRUE(mirror().waits(heir_first ? heir : one.pid()));
    second.say("go on");
    EXPECT_TRUE(second.says(std::to_string(EDEADLK)));
    EXPECT_TRUE(second.ends_well());
    EXPECT_TRUE(first.says("has both"));
    EXPECT_TRUE(first.ends_well());
    EXPECT_TRUE(becomes_free(source(name(0))));
    EXPECT_TRUE(becomes_free(source(name(1))));
  }
}

TEST_P(DeadlockTest, CircleThroughADescriptorThatWasHandedOverIsRefused) {
  SocketPair pair;
  Child giver([&](Peer& test) {
    UniqueFd held = open_file(mnt(name(0)), O_RDWR);
    ASSERT_TRUE(send_descriptor(pair.first(), held.get()));
    held.reset();
    test.say("has given");
    test.await("end");
  });
  Child taker([&](Peer& test) {
    const UniqueFd held = receive_descriptor(pair.second());
    ASSERT_TRUE(held.valid());
    test.say("has one");
    test.await("go on");
    const UniqueFd two(::open(mnt(name(1)).c_str(), O_RDWR | O_CLOEXEC));
    test.say(two ? "has both" : std::to_string(errno));
  });
  Child other = holder(1, O_RDWR, 0, O_RDWR);
  ASSERT_TRUE(giver.says("has given"));
  ASSERT_TRUE(taker.says("has one"));
  ASSERT_TRUE(other.says("has one"));
  taker.say("go on");
  ASSERT_TRUE(mirror().waits(taker.pid()));
  other.say("go on");
  EXPECT_TRUE(other.says(std::to_string(EDEADLK)));
  EXPECT_TRUE(other.ends_well());
  EXPECT_TRUE(taker.says("has both"));
  giver.say("end");
}

class FlockDeadlockTest : public DeadlockTest {
 protected:
  static constexpr int kRead = 0;  // both have it open for reading
  static constexpr int kHeld = 1;  // the one that calls flock(2) has it

  Child opener() { return holder(kRead, O_RDONLY, kHeld, O_RDWR); }
  Child caller(bool catches_alarm) {
    return Child([this, catches_alarm](Peer& test) {
      const UniqueFd held = open_file(mnt(name(kHeld)), O_RDWR);
      const UniqueFd read = open_file(mnt(name(kRead)), O_RDONLY);
      if (catches_alarm) {
        struct sigaction action {};
        action.sa_handler = [](int) {};
        ASSERT_EQ(::sigaction(SIGALRM, &action, nullptr), 0);
      }
      test.say("has one");
      test.await("go on");
      test.say(::flock(read.get(), LOCK_EX) == 0 ? "has both" : std::to_string(errno));
    });
  }
};
INSTANTIATE_TEST_SUITE_P(Mount, FlockDeadlockTest, BothPassthroughs(), passthrough_name);

TEST_P(FlockDeadlockTest, OpenInACircleWithAFlockIsRefused) {
  for (const bool open_first : {true, false}) {
    Child open = opener();
    Child flock = caller(false);
    ASSERT_TRUE(open.says("has one"));
    ASSERT_TRUE(flock.says("has one"));
    (open_first ? open : flock).say("go on");
    ASSERT_TRUE(mirror().waits(open_first ? open.pid() : flock.pid()));
    (open_first ? flock : open).say("go on");
    EXPECT_TRUE(open.says(std::to_string(EDEADLK)));
    EXPECT_TRUE(open.ends_well());
    EXPECT_TRUE(flock.says("has both"));
    EXPECT_TRUE(flock.ends_well());
    EXPECT_TRUE(becomes_free(source(name(kRead))));
    EXPECT_TRUE(becomes_free(source(name(kHeld))));
  }
}

TEST_P(FlockDeadlockTest, FlockThatAnAlarmMayEndIsNoReason) {
  Child open = opener();
  Child flock = caller(true);
  ASSERT_TRUE(open.says("has one"));
  ASSERT_TRUE(flock.says("has one"));
  flock.say("go on");
  ASSERT_TRUE(mirror().waits(flock.pid()));
  open.say("go on");
  ASSERT_TRUE(mirror().waits(open.pid()));
  EXPECT_TRUE(eventually([&] { return log().text().find("refused=no") != std::string::npos; }));
  EXPECT_TRUE(open.silent(Millis(200)));
  flock.signal(SIGALRM);
  EXPECT_TRUE(flock.says(std::to_string(EINTR)));
  EXPECT_TRUE(open.says("has both"));
}

TEST_P(DeadlockTest, TimeoutEndsAWaitByItself) {
  unmount();
  mount({.options = {"timeout=700"}});
  Child one = holder(0, O_RDWR, 1, O_RDWR);
  Child other = holder(1, O_RDWR, 0, O_RDWR);
  ASSERT_TRUE(one.says("has one"));
  ASSERT_TRUE(other.says("has one"));
  one.say("go on");
  ASSERT_TRUE(mirror().waits(one.pid()));
  other.say("go on");
  EXPECT_TRUE(one.says(std::to_string(EAGAIN)));
  EXPECT_EQ(log().count({.event = "deadlock"}), 0u);
}

}  // namespace
}  // namespace flockfs::test
