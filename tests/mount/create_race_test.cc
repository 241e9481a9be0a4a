// DESIGN 4.2: CREATE never waits and never opens what is there already. If the name is taken meanwhile, the answer is
// ESTALE; the kernel looks again and opens the file that has the name now, which may wait.

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "harness/mirror_test.h"
#include "harness/program.h"
#include "harness/tracer.h"

namespace flockfs::test {
namespace {

// A mirror whose daemon is slow between making a file and giving it its name.
class CreateRaceTest : public PassthroughTest {
 protected:
  void mount_slow_to_name() {
    if (find_program("strace").empty()) GTEST_SKIP() << "no strace here";
    MirrorSetup setup;
    setup.program.environment.emplace_back(kTraceable);
    mount(setup);
    // Long enough for the test to notice and to make a file, however slow the machine.
    const std::string delay = std::to_string(scaled(Millis(1000)).count() * 1000);
    tracer_.emplace(mirror().daemon(),
                    std::vector<std::string>{"-e", "trace=linkat", "-e", "inject=linkat:delay_enter=" + delay},
                    tree() / "strace.out");
  }
  // Somebody else is faster with the name; returns the lock that he holds.
  [[nodiscard]] std::unique_ptr<ForeignLock> take_name_meanwhile(const std::string& name) {
    EXPECT_TRUE(enters_call(mirror().daemon(), SYS_linkat));
    EXPECT_FALSE(exists(source(name))) << "too late";
    // Locked before it has the name: nobody can be faster with the lock.
    write_file(tree() / "his", "his");
    auto lock = std::make_unique<ForeignLock>(tree() / "his", LOCK_EX);
    EXPECT_EQ(::link((tree() / "his").c_str(), source(name).c_str()), 0) << errno_name(errno);
    return lock;
  }
  [[nodiscard]] std::string stop_tracing() {
    const std::string report = tracer_->stop();
    tracer_.reset();
    return report;
  }

 private:
  std::optional<Tracer> tracer_;
};
INSTANTIATE_TEST_SUITE_P(Mount, CreateRaceTest, BothPassthroughs(), passthrough_name);

TEST_P(CreateRaceTest, NameThatIsTakenMeanwhileIsWaitedForAndOpened) {
  mount_slow_to_name();
  if (IsSkipped()) return;
  Opener opener(mnt("f"), O_RDWR | O_CREAT);
  const auto lock = take_name_meanwhile("f");
  ASSERT_TRUE(mirror().waits(opener.pid()));
  EXPECT_TRUE(opener.is_waiting());
  EXPECT_NE(stop_tracing().find("EEXIST"), std::string::npos) << "the name was not taken in between";
  ASSERT_EQ(::pwrite(open_file(source("f"), O_WRONLY).get(), "HIS", 3, 0), 3);
  lock->release();
  ASSERT_TRUE(opener.opens());
  EXPECT_EQ(opener.contents(), "HIS");
  EXPECT_EQ(source_lock(source("f")), LockSeen::kExclusive);
  EXPECT_TRUE(opener.write("our"));
  opener.close();
  EXPECT_EQ(read_file(tree() / "his"), "our");
  EXPECT_TRUE(becomes_free(source("f")));
  EXPECT_EQ(list_dir(source()), std::vector<std::string>{"f"});
}

TEST_P(CreateRaceTest, ExclusiveCreationOfANameThatIsTakenMeanwhileFails) {
  mount_slow_to_name();
  if (IsSkipped()) return;
  Opener opener(mnt("f"), O_RDWR | O_CREAT | O_EXCL);
  const auto lock = take_name_meanwhile("f");
  EXPECT_TRUE(opener.fails_with(EEXIST));
  EXPECT_NE(stop_tracing().find("EEXIST"), std::string::npos) << "the name was not taken in between";
  EXPECT_EQ(log().count({.event = "wait"}), 0u) << "who may not have the file does not wait for it";
  lock->release();
  EXPECT_TRUE(becomes_free(source("f")));
  EXPECT_EQ(read_file(source("f")), "his");
}

// A source in which somebody makes a file and removes it, over and over.
class ComingAndGoingTest : public PassthroughTest {
 protected:
  static constexpr mode_t kHis = 0600;
  static constexpr mode_t kOurs = 0644;

  void start() {
    mount();
    changer_.emplace([this](Peer& test) {
      test.say("changing");
      for (;;) {
        (void)open_error(source("f"), O_RDWR | O_CREAT, kHis);
        ::unlink(source("f").c_str());
      }
    });
    ASSERT_TRUE(changer_->says("changing"));
  }
  void stop() {
    changer_->signal(SIGKILL);
    EXPECT_TRUE(changer_->killed_by(SIGKILL));
  }
  // Opens it 2,000 times, and on until each of the two outcomes has been seen, which `once` counts: else the name did
  // not come and go, and the test proves nothing.
  static void open_often(const std::function<void(std::array<int, 2>& counts)>& once) {
    std::array<int, 2> counts{};
    const Deadline deadline(kPatience * 4);
    for (int round = 0; round < 2000 || ((counts[0] == 0 || counts[1] == 0) && !deadline.passed()); ++round) {
      SCOPED_TRACE("round " + std::to_string(round));
      ASSERT_NO_FATAL_FAILURE(once(counts));
    }
    EXPECT_GT(counts[0], 0);
    EXPECT_GT(counts[1], 0);
  }

 private:
  std::optional<Child> changer_;
};
INSTANTIATE_TEST_SUITE_P(Mount, ComingAndGoingTest, BothPassthroughs(), passthrough_name);

// Whether the name is there or not, and whatever happens to it meanwhile, a file is to be had.
TEST_P(ComingAndGoingTest, NameCanAlwaysBeOpened) {
  start();
  EXPECT_TRUE(in_child(
      [&] {
        open_often([&](std::array<int, 2>& counts) {
          const UniqueFd fd(::open(mnt("f").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, kOurs));
          ASSERT_TRUE(fd.valid()) << errno_name(errno);
          struct stat status {};
          ASSERT_EQ(::fstat(fd.get(), &status), 0);
          ++counts[(status.st_mode & 0777) == kHis ? 0 : 1];
        });
      },
      kPatience * 6));
  stop();
}

TEST_P(ComingAndGoingTest, ExclusiveCreationMakesItOrSaysThatItIsThere) {
  start();
  EXPECT_TRUE(in_child(
      [&] {
        open_often([&](std::array<int, 2>& counts) {
          const int error = open_error(mnt("f"), O_RDWR | O_CREAT | O_EXCL, kOurs);
          ASSERT_TRUE(error == 0 || error == EEXIST) << errno_name(error);
          ++counts[error == 0 ? 0 : 1];
        });
      },
      kPatience * 6));
  stop();
}

}  // namespace
}  // namespace flockfs::test
