// DESIGN 1.6: a process never waits for itself. Who holds a file is whoever has a descriptor or a mapping of it.

#include <fcntl.h>
#include <sched.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/wait.h>
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

// Makes a process with this number, if that is free.
pid_t fork_as(pid_t number, const std::function<void()>& body) {
  for (int tries = 0; tries < 200; ++tries) {
    write_file("/proc/sys/kernel/ns_last_pid", std::to_string(number - 1));
    const pid_t made = ::fork();
    if (made == 0) {
      if (::getpid() == number) body();
      ::_exit(0);
    }
    if (made == number) return made;
    ::waitpid(made, nullptr, 0);
  }
  return -1;
}

class ReopenTest : public PassthroughTest {
 protected:
  void SetUp() override { write_file(source("f"), "contents"); }
};
INSTANTIATE_TEST_SUITE_P(Mount, ReopenTest, BothPassthroughs(), passthrough_name);

TEST_P(ReopenTest, ReaderThatOpensForWritingIsExclusiveUntilItsLastClose) {
  mount();
  Child both([&](Peer& test) {
    UniqueFd reader = open_file(mnt("f"), O_RDONLY);
    UniqueFd writer = open_file(mnt("f"), O_RDWR);
    test.say("both");
    test.await("close the writer");
    writer.reset();
    test.say("one");
    test.await("close");
  });
  ASSERT_TRUE(both.says("both"));
  EXPECT_EQ(source_lock(source("f")), LockSeen::kExclusive);
  both.say("close the writer");
  ASSERT_TRUE(both.says("one"));
  EXPECT_EQ(source_lock(source("f")), LockSeen::kExclusive);
  both.say("close");
  EXPECT_TRUE(both.ends_well());
  EXPECT_TRUE(becomes_free(source("f")));
}

TEST_P(ReopenTest, ChildThatInheritedADescriptorJoins) {
  mount();
  EXPECT_TRUE(in_child([&] {
    const UniqueFd reader = open_file(mnt("f"), O_RDONLY);
    EXPECT_TRUE(in_child([&] { EXPECT_EQ(open_error(mnt("f"), O_RDWR), 0); }));
  }));
  EXPECT_TRUE(becomes_free(source("f")));
}

TEST_P(ReopenTest, WhatWasGivenToAChildDoesNotCountForTheGiver) {
  mount();
  Child giver([&](Peer& test) {
    UniqueFd reader = open_file(mnt("f"), O_RDONLY);
    Child keeper([](Peer& parent) { parent.await("close"); });
    reader.reset();
    test.say("given");
    std::thread closing([&] {
      test.await("close");
      keeper.say("close");
    });
    EXPECT_EQ(open_error(mnt("f"), O_RDWR), 0);
    closing.join();
    EXPECT_TRUE(keeper.ends_well());
    test.say("opened");
  });
  ASSERT_TRUE(giver.says("given"));
  EXPECT_TRUE(mirror().waits(giver.pid()));
  EXPECT_TRUE(giver.silent(Millis(200))) << "joined what only its child has";
  giver.say("close");
  EXPECT_TRUE(giver.says("opened"));
  EXPECT_TRUE(giver.ends_well());
}

TEST_P(ReopenTest, WhoeverIsHandedADescriptorJoinsAndWhoeverHandedItOnWaits) {
  mount();
  SocketPair sockets;
  Child giver([&](Peer& test) {
    UniqueFd reader = open_file(mnt("f"), O_RDONLY);
    ASSERT_TRUE(send_descriptor(sockets.first(), reader.get()));
    test.await("close");
    reader.reset();
    test.say("closed");
    test.await("open");
    EXPECT_EQ(open_error(mnt("f"), O_RDWR), 0);
    test.say("opened");
  });
  Child taker([&](Peer& test) {
    const UniqueFd reader = receive_descriptor(sockets.second());
    test.say("has it");
    test.await("open");
    EXPECT_EQ(open_error(mnt("f"), O_RDWR), 0);
    test.say("opened");
    test.await("end");
  });
  ASSERT_TRUE(taker.says("has it"));
  giver.say("close");
  ASSERT_TRUE(giver.says("closed"));
  taker.say("open");
  EXPECT_TRUE(taker.says("opened"));
  giver.say("open");
  EXPECT_TRUE(mirror().waits(giver.pid()));
  EXPECT_TRUE(giver.silent(Millis(200)));
  taker.say("end");
  EXPECT_TRUE(giver.says("opened"));
}

TEST_P(ReopenTest, ProcessWithAReusedNumberIsAStranger) {
  mount();
  SocketPair sockets;
  Child keeper([&](Peer& test) {
    const UniqueFd reader = receive_descriptor(sockets.second());
    test.say("has it");
    test.await("close");
  });
  pid_t number = 0;
  Child parent([&](Peer& test) {  // made first, or it might get the number itself
    const pid_t wanted = std::stoi(test.hear());
    const pid_t second = fork_as(wanted, [&] { ::_exit(open_error(mnt("f"), O_RDWR)); });
    test.say(second == wanted ? "made" : "taken");
    if (second != wanted) return;
    int status = 0;
    ASSERT_EQ(::waitpid(second, &status, 0), second);
    EXPECT_EQ(WEXITSTATUS(status), 0);
    test.say("opened");
  });
  {
    Child first([&](Peer&) {
      const UniqueFd reader = open_file(mnt("f"), O_RDONLY);
      ASSERT_TRUE(send_descriptor(sockets.first(), reader.get()));
    });
    number = first.pid();
    ASSERT_TRUE(keeper.says("has it"));
    ASSERT_TRUE(first.ends_well());
  }
  parent.say(std::to_string(number));
  const auto made = parent.hear();
  ASSERT_TRUE(made.has_value());
  if (*made == "taken") GTEST_SKIP() << "somebody else has got the number";
  EXPECT_TRUE(mirror().waits(number));
  EXPECT_TRUE(parent.silent(Millis(200))) << "joined the lock of an earlier process of its number";
  keeper.say("close");
  EXPECT_TRUE(parent.says("opened"));
}

TEST_P(ReopenTest, ClientInAPidNamespaceOfItsOwnJoins) {
  mount();
  EXPECT_TRUE(in_child([&] {
    ASSERT_EQ(::unshare(CLONE_NEWPID), 0);
    const pid_t client = ::fork();
    if (client == 0) {
      const UniqueFd reader = open_file(mnt("f"), O_RDONLY);
      ::_exit(open_error(mnt("f"), O_RDWR));
    }
    int status = 0;
    ASSERT_EQ(::waitpid(client, &status, 0), client);
    EXPECT_EQ(status, 0);
  }));
}

TEST_P(ReopenTest, WhoeverHasOnlyAMappingJoins) {
  mount();
  EXPECT_TRUE(in_child([&] {
    void* map = nullptr;
    {
      const UniqueFd reader = open_file(mnt("f"), O_RDONLY);
      map = ::mmap(nullptr, 4096, PROT_READ, MAP_SHARED, reader.get(), 0);
      ASSERT_NE(map, MAP_FAILED);
    }
    EXPECT_EQ(open_error(mnt("f"), O_RDWR), 0);
    EXPECT_EQ(::munmap(map, 4096), 0);
  }));
  EXPECT_TRUE(becomes_free(source("f")));
}

TEST_P(ReopenTest, OpenByPathOnlyIsNoHold) {
  mount();
  Opener writer(mnt("f"), O_RDWR);
  ASSERT_TRUE(writer.opens());
  Child looker([&](Peer& test) {
    const UniqueFd by_path = open_file(mnt("f"), O_PATH);
    EXPECT_EQ(open_error(mnt("f"), O_RDONLY), 0);
    test.say("opened");
  });
  EXPECT_TRUE(mirror().waits(looker.pid()));
  EXPECT_TRUE(looker.silent(Millis(200)));
  writer.close();
  EXPECT_TRUE(looker.says("opened"));
}

TEST_P(ReopenTest, JoinPassesAWaitingWriter) {
  mount();
  Child reader([&](Peer& test) {
    const UniqueFd one = open_file(mnt("f"), O_RDONLY);
    test.say("reads");
    test.await("again");
    EXPECT_EQ(open_error(mnt("f"), O_RDONLY), 0);
    test.say("read again");
    test.await("close");
  });
  ASSERT_TRUE(reader.says("reads"));
  Opener writer(mnt("f"), O_RDWR);
  ASSERT_TRUE(mirror().waits(writer.pid()));
  reader.say("again");
  EXPECT_TRUE(reader.says("read again"));
  EXPECT_TRUE(writer.is_waiting());
  reader.say("close");
  EXPECT_TRUE(writer.opens());
}

TEST_P(ReopenTest, UpgradeWaitsForReadersOutsideAndKeepsItsLock) {
  mount();
  ForeignLock foreign(source("f"), LOCK_SH);
  Child both([&](Peer& test) {
    const UniqueFd reader = open_file(mnt("f"), O_RDONLY);
    EXPECT_EQ(open_error(mnt("f"), O_RDWR), 0);
    test.say("both");
  });
  EXPECT_TRUE(mirror().waits(both.pid()));
  EXPECT_TRUE(both.silent(Millis(300)));
  foreign.release();
  EXPECT_TRUE(both.says("both"));
  EXPECT_TRUE(both.ends_well());
}

// Whoever is inside alone says so in memory that all share.
TEST_P(ReopenTest, EveryLapseOfAnUpgradeIsRefusedAndCounted) {
  const int rounds = std::getenv("FLOCKFS_TEST_FULL") != nullptr ? 10'000 : 500;
  mount({.test_deadline = Millis(600'000)});
  auto* inside =
      static_cast<std::atomic<int>*>(::mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
  std::vector<Child> foreign;
  for (const int operation : {LOCK_EX, LOCK_SH}) {
    foreign.emplace_back([&, operation](Peer&) {
      for (;;) {
        const UniqueFd fd = open_file(source("f"), O_RDONLY);
        if (::flock(fd.get(), operation | LOCK_NB) != 0) continue;
        if (operation == LOCK_EX) {
          EXPECT_EQ(inside->fetch_add(1), 0);
          inside->fetch_sub(1);
        }
      }
    });
  }
  Child upgrading([&](Peer& test) {
    int refused = 0;
    for (int round = 0; round < rounds; ++round) {
      const UniqueFd reader = open_file(mnt("f"), O_RDONLY);
      const UniqueFd writer(::open(mnt("f").c_str(), O_RDWR | O_CLOEXEC));
      if (!writer) {
        ASSERT_EQ(errno, EAGAIN);
        ++refused;
        continue;
      }
      ASSERT_EQ(inside->fetch_add(1), 0) << "a foreign writer is inside";
      inside->fetch_sub(1);
    }
    test.say(std::to_string(refused));
  });
  const auto refused = upgrading.hear(Millis(300'000));
  ASSERT_TRUE(refused.has_value());
  EXPECT_TRUE(upgrading.ends_well());
  for (Child& child : foreign) child.signal(SIGKILL);
  std::size_t lapses = 0;
  EXPECT_TRUE(eventually([&] {
    lapses = log().count({.event = "lapsed"});
    return std::to_string(lapses) == *refused;
  })) << lapses
      << " logged, " << *refused << " refused";
}

// Legato's API: threads exclude each other by opening.
TEST_P(ReopenTest, WithReopenWaitThreadsExcludeEachOther) {
  const int rounds = std::getenv("FLOCKFS_TEST_FULL") != nullptr ? 1'000 : 100;
  write_file(source("f"), "0");
  mount({.options = {"reopen=wait", "log_level=warning"}, .test_deadline = Millis(600'000)});
  EXPECT_TRUE(in_child(
      [&] {
        std::vector<std::thread> threads;
        for (int i = 0; i < 8; ++i) {
          threads.emplace_back([&] {
            for (int round = 0; round < rounds; ++round) {
              const UniqueFd fd = open_file(mnt("f"), O_RDWR);
              char text[16] = {};
              ASSERT_GT(::pread(fd.get(), text, sizeof text - 1, 0), 0);
              const std::string next = std::to_string(std::atoi(text) + 1);
              ASSERT_EQ(::pwrite(fd.get(), next.data(), next.size(), 0), static_cast<ssize_t>(next.size()));
            }
          });
        }
        for (std::thread& thread : threads) thread.join();
      },
      Millis(300'000)));
  EXPECT_EQ(read_file(source("f")), std::to_string(8 * rounds));
}

TEST_P(ReopenTest, WithReopenWaitAThreadThatWaitsForItsOwnOpenIsRefused) {
  mount({.options = {"reopen=wait"}});
  EXPECT_TRUE(in_child([&] {
    std::atomic<bool> done{false};
    std::thread other([&] {
      while (!done) std::this_thread::yield();
    });
    const UniqueFd writer = open_file(mnt("f"), O_RDWR);
    EXPECT_EQ(open_error(mnt("f"), O_RDONLY), EDEADLK);
    done = true;
    other.join();
  }));
}

}  // namespace
}  // namespace flockfs::test
