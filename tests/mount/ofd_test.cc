// DESIGN 1.10: lock=ofd and lock=flock+ofd, as those see it who lock the source by fcntl(2).

#include <fcntl.h>
#include <sys/file.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <string>
#include <tuple>

#include "harness/mirror_test.h"
#include "harness/record_lock.h"
#include "harness/watcher.h"

namespace flockfs::test {
namespace {

constexpr RecordLock kBothKinds[] = {RecordLock::kPosix, RecordLock::kOfd};

class OfdTest : public MirrorTest, public ::testing::WithParamInterface<std::tuple<std::string, Passthrough>> {
 protected:
  void SetUp() override { write_file(source("f"), "contents"); }
  void adapt(MirrorSetup& setup) const override {
    setup.options.push_back("lock=" + std::get<0>(GetParam()));
    setup.options.push_back(PassthroughTest::passthrough_option(std::get<1>(GetParam())));
  }
  [[nodiscard]] static bool takes_flock() { return std::get<0>(GetParam()) == "flock+ofd"; }
  // The flock that goes with a record lock, or none.
  [[nodiscard]] static LockSeen flock_beside(LockSeen record) { return takes_flock() ? record : LockSeen::kFree; }
  // No lock of either kind.
  void expect_free() {
    EXPECT_TRUE(record_becomes(source("f"), LockSeen::kFree));
    EXPECT_TRUE(becomes_free(source("f")));
  }
};
std::string ofd_name(const ::testing::TestParamInfo<OfdTest::ParamType>& info) {
  return std::string(std::get<0>(info.param) == "ofd" ? "Ofd" : "FlockAndOfd") +
         (std::get<1>(info.param) == Passthrough::kAuto ? "Passthrough" : "NoPassthrough");
}
INSTANTIATE_TEST_SUITE_P(Mount, OfdTest, ::testing::Combine(::testing::Values("ofd", "flock+ofd"), BothPassthroughs()),
                         ofd_name);

TEST_P(OfdTest, ReaderHoldsASharedRecordLock) {
  mount();
  Opener reader(mnt("f"), O_RDONLY);
  ASSERT_TRUE(reader.opens());
  for (const RecordLock kind : kBothKinds) EXPECT_EQ(source_record(source("f"), kind), LockSeen::kShared);
  EXPECT_EQ(source_lock(source("f")), flock_beside(LockSeen::kShared));
  const auto locks = kernel_locks(source("f"));
  const auto is_ours = [](const KernelLock& lock) { return lock.type == "OFDLCK" && lock.mode == "READ"; };
  EXPECT_EQ(std::count_if(locks.begin(), locks.end(), is_ours), 1);
  EXPECT_EQ(locks.size(), takes_flock() ? 2u : 1u);
  for (const RecordLock kind : kBothKinds) {
    EXPECT_TRUE(in_child([&] {
      const UniqueFd fd = open_file(source("f"), O_RDWR);
      EXPECT_EQ(set_record(fd.get(), F_RDLCK, kind), 0);
      EXPECT_EQ(set_record(fd.get(), F_WRLCK, kind), EAGAIN);
    }));
  }
  reader.close();
  expect_free();
}

TEST_P(OfdTest, WriterHoldsAnExclusiveRecordLock) {
  mount();
  for (const int flags : {O_WRONLY, O_RDWR, O_WRONLY | O_APPEND, O_RDONLY | O_TRUNC, O_RDWR | O_TRUNC, O_ACCMODE}) {
    Opener writer(mnt("f"), flags);
    ASSERT_TRUE(writer.opens()) << flags;
    for (const RecordLock kind : kBothKinds) EXPECT_EQ(source_record(source("f"), kind), LockSeen::kExclusive) << flags;
    EXPECT_EQ(source_lock(source("f")), flock_beside(LockSeen::kExclusive)) << flags;
    for (const RecordLock kind : kBothKinds) {
      EXPECT_TRUE(in_child([&] {
        const UniqueFd fd = open_file(source("f"), O_RDONLY);
        EXPECT_EQ(set_record(fd.get(), F_RDLCK, kind), EAGAIN);
      }));
    }
    writer.close();
    expect_free();
  }
}

TEST_P(OfdTest, OpenWaitsForTheRecordLocksOfOthers) {
  mount();
  for (const RecordLock kind : kBothKinds) {
    RecordHolder holder(source("f"), F_WRLCK, kind);
    Opener reader(mnt("f"), O_RDONLY);
    ASSERT_TRUE(mirror().waits(reader.pid()));
    EXPECT_TRUE(reader.is_waiting());
    write_file(source("f"), "after");
    holder.release();
    ASSERT_TRUE(reader.opens());
    EXPECT_EQ(reader.contents(), "after");
    reader.close();
  }
}

// Whole files only: a lock of one byte, were it beyond the end, is in the way of all.
TEST_P(OfdTest, RecordLockOfOneByteIsInTheWay) {
  mount();
  RecordHolder holder(source("f"), F_RDLCK, RecordLock::kPosix, 1'000'000, 1);
  Opener reader(mnt("f"), O_RDONLY);
  ASSERT_TRUE(reader.opens());
  reader.close();
  Opener writer(mnt("f"), O_WRONLY);
  ASSERT_TRUE(mirror().waits(writer.pid()));
  EXPECT_TRUE(writer.is_waiting());
  holder.release();
  ASSERT_TRUE(writer.opens());
  writer.close();
}

TEST_P(OfdTest, OthersWaitForTheMirror) {
  mount();
  for (const RecordLock kind : kBothKinds) {
    Opener reader(mnt("f"), O_RDONLY);
    ASSERT_TRUE(reader.opens());
    Child waiter([&](Peer& test) {
      const UniqueFd fd = open_file(source("f"), O_RDWR);
      test.say("calls");
      EXPECT_EQ(set_record(fd.get(), F_WRLCK, kind, true), 0);
      test.say("locked");
      test.await("end");
    });
    ASSERT_TRUE(waiter.says("calls"));
    const auto blocked = [&] {
      const auto locks = kernel_locks(source("f"));
      return std::any_of(locks.begin(), locks.end(), [](const KernelLock& lock) { return lock.waits; });
    };
    ASSERT_TRUE(eventually(blocked));
    EXPECT_TRUE(waiter.silent());
    reader.close();
    EXPECT_TRUE(waiter.says("locked"));
    waiter.say("end");
    EXPECT_TRUE(waiter.ends_well());
  }
}

TEST_P(OfdTest, TruncationWaitsForTheLock) {
  mount();
  RecordHolder holder(source("f"), F_RDLCK, RecordLock::kPosix);
  Opener opener(mnt("f"), O_RDWR | O_TRUNC);
  ASSERT_TRUE(mirror().waits(opener.pid()));
  Child truncating([&](Peer& test) { test.say(::truncate(mnt("f").c_str(), 3) == 0 ? "done" : errno_name(errno)); });
  // By path it gives way to whoever waits already.
  EXPECT_TRUE(truncating.says("EAGAIN"));
  EXPECT_EQ(read_file(source("f")), "contents");
  holder.release();
  ASSERT_TRUE(opener.opens());
  EXPECT_EQ(read_file(source("f")), "");
  opener.close();
  EXPECT_TRUE(in_child([&] { EXPECT_EQ(::truncate(mnt("f").c_str(), 3), 0); }));
  EXPECT_EQ(stat_of(source("f")).st_size, 3);
  expect_free();
}

TEST_P(OfdTest, TryFailsOnARecordLock) {
  mount({.options = {"timeout=0"}});
  RecordHolder holder(source("f"), F_RDLCK, RecordLock::kOfd);
  Opener writer(mnt("f"), O_RDWR);
  EXPECT_TRUE(writer.fails_with(EAGAIN));
  Opener reader(mnt("f"), O_RDONLY);
  ASSERT_TRUE(reader.opens());
  reader.close();
  holder.release();
  Opener again(mnt("f"), O_RDWR);
  ASSERT_TRUE(again.opens());
  again.close();
}

TEST_P(OfdTest, CreatedFilesAppearLocked) {
  mount();
  const auto has_record = [](int fd) {
    struct flock lock {};
    lock.l_type = F_RDLCK;
    return ::fcntl(fd, F_OFD_GETLK, &lock) == 0 && lock.l_type == F_WRLCK;
  };
  EXPECT_EQ(names_seen_unlocked(mnt(), source(), 100, has_record), 0);
}

TEST_P(OfdTest, LockLastsToTheLastCloseAndMapping) {
  mount();
  Child parent([&](Peer& test) {
    UniqueFd fd = open_file(mnt("f"), O_RDWR);
    const UniqueFd copy(::fcntl(fd.get(), F_DUPFD_CLOEXEC, 0));
    fd.reset();
    const pid_t child = ::fork();
    if (child == 0) ::_exit(0);
    ::waitpid(child, nullptr, 0);  // the end of a process that has the file too is not its last close
    test.say("has it");
    test.await("close");
  });
  ASSERT_TRUE(parent.says("has it"));
  EXPECT_EQ(source_record(source("f")), LockSeen::kExclusive);
  parent.say("close");
  EXPECT_TRUE(parent.ends_well());
  expect_free();
}

TEST_P(OfdTest, KilledWaiterAndKilledHolderLeaveNothing) {
  mount();
  RecordHolder foreign(source("f"), F_RDLCK, RecordLock::kPosix);
  Opener holder(mnt("f"), O_RDONLY);
  ASSERT_TRUE(holder.opens());
  Opener waiter(mnt("f"), O_RDWR);
  ASSERT_TRUE(mirror().waits(waiter.pid()));
  for (Opener* opener : {&waiter, &holder}) {
    opener->child().signal(SIGKILL);
    EXPECT_TRUE(opener->child().killed_by(SIGKILL));
  }
  foreign.release();
  expect_free();
}

// The kernel refuses to execute what anybody has open for writing: a reader's descriptor in the daemon must not be one.
TEST_P(OfdTest, ProgramsRunWhileReadersHaveThemOpen) {
  const std::string program = find_program("sleep");
  ASSERT_EQ(run_program({"cp", program, source("sleep")}).exit_code, 0);
  mount();
  Opener reader(mnt("sleep"), O_RDONLY);
  ASSERT_TRUE(reader.opens());
  EXPECT_EQ(run_program({source("sleep"), "0"}).exit_code, 0);
  EXPECT_EQ(run_program({mnt("sleep"), "0"}).exit_code, 0);
  reader.close();

  Program running({mnt("sleep"), "1000"});
  ASSERT_TRUE(record_becomes(source("sleep"), LockSeen::kShared));
  EXPECT_EQ(run_program({"cmp", mnt("sleep"), program}).exit_code, 0);
  EXPECT_EQ(run_program({source("sleep"), "0"}).exit_code, 0);
  Opener busy(mnt("sleep"), O_RDWR);
  EXPECT_TRUE(busy.fails_with(ETXTBSY));
  running.process().signal(SIGKILL);
  EXPECT_EQ(running.exit_code(), 128 + SIGKILL);
  Opener writer(mnt("sleep"), O_RDWR);
  ASSERT_TRUE(writer.opens());
  // That this would be seen.
  EXPECT_NE(run_program({source("sleep"), "0"}).err.find("Text file busy"), std::string::npos);
  writer.close();
}

class PairTest : public OfdTest {};
INSTANTIATE_TEST_SUITE_P(Mount, PairTest, ::testing::Combine(::testing::Values("flock+ofd"), BothPassthroughs()),
                         ofd_name);

// All parts or none: whoever waits for the one keeps nobody from the other.
TEST_P(PairTest, WaitForOnePartLeavesTheOtherFree) {
  mount();
  {
    ForeignLock flocked(source("f"), LOCK_EX);
    Opener opener(mnt("f"), O_RDWR);
    ASSERT_TRUE(mirror().waits(opener.pid()));
    ASSERT_TRUE(has_flocks(source("f"), 1, 1));
    for (int look = 0; look < 100; ++look) ASSERT_EQ(source_record(source("f")), LockSeen::kFree);
    flocked.release();
    ASSERT_TRUE(opener.opens());
    EXPECT_EQ(source_record(source("f")), LockSeen::kExclusive);
    EXPECT_EQ(source_lock(source("f")), LockSeen::kExclusive);
    opener.close();
    expect_free();
  }
  RecordHolder recorded(source("f"), F_WRLCK, RecordLock::kOfd);
  Opener opener(mnt("f"), O_RDWR);
  ASSERT_TRUE(mirror().waits(opener.pid()));
  ASSERT_TRUE(becomes_free(source("f")));
  for (int look = 0; look < 100; ++look) ASSERT_TRUE(has_flocks(source("f"), 0));
  EXPECT_TRUE(opener.is_waiting());
  recorded.release();
  ASSERT_TRUE(opener.opens());
  EXPECT_EQ(source_lock(source("f")), LockSeen::kExclusive);
  opener.close();
}

// With either kind an application excludes the mirror, and two applications that take different kinds do not exclude
// one another: a counter of each, under the mirror's lock of both.
TEST_P(PairTest, CountersOfBothKindsLoseNothing) {
  constexpr int kTimes = 100;
  mount({.options = {"log_level=warning"}});
  write_file(source("f"), "0 0");
  const auto count = [&](const std::string& path, int which, const std::function<void(int)>& lock) {
    for (int i = 0; i < kTimes; ++i) {
      const UniqueFd fd = open_file(path, O_RDWR);
      lock(fd.get());
      char text[64] = {};
      ASSERT_GT(::pread(fd.get(), text, sizeof text - 1, 0), 0);
      long numbers[2] = {};
      ASSERT_EQ(std::sscanf(text, "%ld %ld", &numbers[0], &numbers[1]), 2) << text;
      ++numbers[which];
      const std::string next = std::to_string(numbers[0]) + " " + std::to_string(numbers[1]);
      ASSERT_EQ(::pwrite(fd.get(), next.data(), next.size(), 0), static_cast<ssize_t>(next.size()));
    }
  };
  const auto by_open = [](int) {};
  const auto by_flock = [](int fd) { ASSERT_EQ(::flock(fd, LOCK_EX), 0); };
  const auto by_record = [](int fd) { ASSERT_EQ(set_record(fd, F_WRLCK, RecordLock::kPosix, true), 0); };
  for (const auto& foreign : {std::function<void(int)>(by_flock), std::function<void(int)>(by_record)}) {
    write_file(source("f"), "0 0");
    Child one([&](Peer&) { count(mnt("f"), 0, by_open); });
    Child two([&](Peer&) { count(mnt("f"), 0, by_open); });
    Child three([&](Peer&) { count(source("f"), 1, foreign); });
    for (Child* child : {&one, &two, &three}) EXPECT_TRUE(child->ends_well(kPatience * 4));
    EXPECT_EQ(read_file(source("f")), std::to_string(2 * kTimes) + " " + std::to_string(kTimes));
  }
}

}  // namespace
}  // namespace flockfs::test
