// DESIGN 1.3 for truncate(2) by path: its caller's kernel code notes the new size when the daemon has answered, on a
// busy machine some time later. Nobody who opens the file meanwhile may be shown that size.

#include <fcntl.h>
#include <sched.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <string>
#include <thread>

#include "harness/mirror_test.h"

namespace flockfs::test {
namespace {

class LateTruncationTest : public PassthroughTest {
 protected:
  static constexpr off_t kShort = 100;
  static constexpr std::size_t kLong = 9000;

  // On the last processor, where the other one lets it run hardly ever.
  static void share_processor(int policy) {
    cpu_set_t all;
    cpu_set_t last;
    CPU_ZERO(&last);
    ASSERT_EQ(::sched_getaffinity(0, sizeof all, &all), 0);
    for (int cpu = CPU_SETSIZE - 1; cpu >= 0 && CPU_COUNT(&last) == 0; --cpu) {
      if (CPU_ISSET(cpu, &all)) CPU_SET(cpu, &last);
    }
    ASSERT_EQ(::sched_setaffinity(0, sizeof last, &last), 0);
    const sched_param none{};
    ASSERT_EQ(::sched_setscheduler(0, policy, &none), 0);
  }

  // As somebody on the source who takes the lock as soon as the truncation has given it back.
  void write_after_truncation() const {
    ASSERT_TRUE(eventually([&] { return stat_of(source("f")).st_size == kShort; }));
    const ForeignLock lock(source("f"), LOCK_EX);
    write_file(source("f"), std::string(kLong, 'b'));
  }

  // Until it is told that the truncation has returned, and a little longer.
  void read(Peer& test) {
    const UniqueFd fd = open_file(mnt("f"), O_RDONLY);
    // No fstat(2) in between, which would have the kernel ask for the size again.
    const auto look = [&] { ASSERT_EQ(read_all(fd.get()).size(), kLong); };
    look();
    test.say("reads");
    std::thread looking([&] {
      while (!::testing::Test::HasFailure() && !told_) look();
    });
    test.await("returned");
    told_ = true;
    looking.join();
    look();
  }

  std::atomic<bool> told_ = false;
};
INSTANTIATE_TEST_SUITE_P(Mount, LateTruncationTest, BothPassthroughs(), passthrough_name);

TEST_P(LateTruncationTest, IsNotSeenByWhoOpensTheFileAfterIt) {
  write_file(source("f"), std::string(kLong, 'a'));
  mount({.options = {"log_level=warning"}});
  const Child burner([](Peer&) {
    share_processor(SCHED_OTHER);
    for (volatile bool forever = true; forever;) {
    }
  });
  for (int round = 0; round < 10; ++round) {
    Child truncating([&](Peer& test) {
      share_processor(SCHED_IDLE);
      test.say("truncates");
      ASSERT_EQ(::truncate(mnt("f").c_str(), kShort), 0);
    });
    ASSERT_TRUE(truncating.says("truncates"));
    write_after_truncation();
    Child reader([&](Peer& test) { read(test); });
    ASSERT_TRUE(reader.says("reads")) << "round " << round;
    ASSERT_TRUE(truncating.ends_well());
    reader.say("returned");
    ASSERT_TRUE(reader.ends_well()) << "round " << round;
  }
}

}  // namespace
}  // namespace flockfs::test
