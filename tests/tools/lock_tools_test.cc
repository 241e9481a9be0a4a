// The relatives of setlock that Debian has: programs that take a lock and run a command under it. Each against the
// mirror, in both directions, for each lock=: whoever uses flock(2) is seen with lock=flock, whoever uses fcntl(2) with
// lock=ofd, and both with lock=flock+ofd. README.md shows this table.

#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <csignal>
#include <string>
#include <tuple>
#include <vector>

#include "harness/mirror_test.h"
#include "harness/record_lock.h"

namespace flockfs::test {
namespace {

enum class Call { kFlock, kFcntl };

// A way to use one of the programs; the lock file and the command are put after the words.
struct LockTool {
  std::string name;
  Call call = Call::kFlock;
  std::vector<std::string> waits;  // until it has the lock
  std::vector<std::string> tries;  // ends at once without it
  int refused = 1;                 // the exit status of that
  bool shared = false;             // the lock it takes
};

void PrintTo(const LockTool& tool, std::ostream* out) { *out << tool.name; }

std::vector<LockTool> lock_tools() {
  return {
      {"UtilLinuxFlock", Call::kFlock, {"flock"}, {"flock", "-n", "-E", "77"}, 77, false},
      {"UtilLinuxFlockShared", Call::kFlock, {"flock", "-s"}, {"flock", "-s", "-n"}, 1, true},
      {"DaemontoolsSetlock", Call::kFlock, {"setlock"}, {"setlock", "-n"}, 111, false},
      {"RunitChpst", Call::kFlock, {"chpst", "-l"}, {"chpst", "-L"}, 111, false},
      {"MoreutilsLckdo", Call::kFcntl, {"lckdo", "-w"}, {"lckdo"}, 75, false},
      {"MoreutilsLckdoShared", Call::kFcntl, {"lckdo", "-s", "-w"}, {"lckdo", "-s"}, 75, true},
      {"S6Setlock", Call::kFcntl, {"s6-setlock"}, {"s6-setlock", "-n"}, 1, false},
      {"S6SetlockShared", Call::kFcntl, {"s6-setlock", "-r"}, {"s6-setlock", "-r", "-n"}, 1, true},
  };
}

class LockToolTest : public MirrorTest, public ::testing::WithParamInterface<std::tuple<LockTool, std::string>> {
 protected:
  void SetUp() override {
    if (tool().waits[0] == "lckdo" && find_program("lckdo").empty()) GTEST_SKIP() << "moreutils means to drop it";
    write_file(source("f"), "contents");
    mount({.options = {"lock=" + mirror_takes()}});
  }

  [[nodiscard]] static const LockTool& tool() { return std::get<0>(GetParam()); }
  [[nodiscard]] static const std::string& mirror_takes() { return std::get<1>(GetParam()); }
  // Whether the mirror takes the kind of lock that the program takes.
  [[nodiscard]] static bool interlock() {
    return mirror_takes() == "flock+ofd" || mirror_takes() == (tool().call == Call::kFlock ? "flock" : "ofd");
  }

  // The program on the source, with a command that runs under its lock.
  [[nodiscard]] std::vector<std::string> command(std::vector<std::string> words,
                                                 const std::vector<std::string>& run) const {
    words.push_back(source("f"));
    words.insert(words.end(), run.begin(), run.end());
    return words;
  }
  // Waits for its lock, says "inside", and holds it until end(). A process group, since some stay beside what they run.
  [[nodiscard]] Program holding() const {
    return Program(command(tool().waits, {"sh", "-c", "echo inside; exec sleep 60"}),
                   {.before_exec = [] { ::setpgid(0, 0); }});
  }
  [[nodiscard]] static bool is_inside(const Program& program) {
    return eventually([&] { return program.out() == "inside\n"; });
  }
  static void end(Program& program) {
    ::kill(-program.pid(), SIGKILL);
    EXPECT_EQ(program.exit_code(), 128 + SIGKILL);
  }
  // Somebody is blocked in a lock call on the source file.
  [[nodiscard]] bool somebody_blocks() const {
    return eventually([&] {
      for (const KernelLock& lock : kernel_locks(source("f"))) {
        if (lock.waits) return true;
      }
      return false;
    });
  }
};

std::string lock_tool_name(const ::testing::TestParamInfo<LockToolTest::ParamType>& info) {
  const std::string& lock = std::get<1>(info.param);
  return std::get<0>(info.param).name + "With" + (lock == "flock" ? "Flock" : lock == "ofd" ? "Ofd" : "FlockAndOfd");
}
INSTANTIATE_TEST_SUITE_P(Tools, LockToolTest,
                         ::testing::Combine(::testing::ValuesIn(lock_tools()),
                                            ::testing::Values("flock", "ofd", "flock+ofd")),
                         lock_tool_name);

TEST_P(LockToolTest, ToolHoldsAndTheMirrorWaits) {
  Program holder = holding();
  ASSERT_TRUE(is_inside(holder)) << holder.err();
  if (tool().shared) {
    Opener reader(mnt("f"), O_RDONLY);
    ASSERT_TRUE(reader.opens());
    reader.close();
  }
  Opener opener(mnt("f"), tool().shared ? O_RDWR : O_RDONLY);
  if (!interlock()) {
    EXPECT_TRUE(opener.opens());
    opener.close();
    end(holder);
    return;
  }
  ASSERT_TRUE(mirror().waits(opener.pid()));
  EXPECT_TRUE(opener.is_waiting());
  end(holder);
  ASSERT_TRUE(opener.opens());
  opener.close();
}

TEST_P(LockToolTest, MirrorHoldsAndTheToolIsRefusedOrWaits) {
  {
    // Two readers never exclude one another.
    Opener reader(mnt("f"), O_RDONLY);
    ASSERT_TRUE(reader.opens());
    const ProgramResult trying = run_program(command(tool().tries, {"echo", "inside"}));
    EXPECT_EQ(trying.exit_code, tool().shared || !interlock() ? 0 : tool().refused) << trying;
    reader.close();
  }
  Opener writer(mnt("f"), O_RDWR);
  ASSERT_TRUE(writer.opens());
  const ProgramResult trying = run_program(command(tool().tries, {"echo", "inside"}));
  EXPECT_EQ(trying.exit_code, interlock() ? tool().refused : 0) << trying;
  EXPECT_EQ(trying.out, interlock() ? "" : "inside\n");

  Program waiting = holding();
  if (interlock()) {
    ASSERT_TRUE(somebody_blocks());
    EXPECT_EQ(waiting.out(), "") << "it did not wait";
    EXPECT_EQ(waiting.process().poll_status(), std::nullopt) << waiting.err();
    writer.close();
  }
  EXPECT_TRUE(is_inside(waiting)) << waiting.err();
  end(waiting);
  if (!interlock()) writer.close();
  EXPECT_TRUE(becomes_free(source("f")));
  EXPECT_TRUE(record_becomes(source("f"), LockSeen::kFree));
}

}  // namespace
}  // namespace flockfs::test
