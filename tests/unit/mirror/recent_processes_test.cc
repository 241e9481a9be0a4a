#include "mirror/recent_processes.h"

#include <gmock/gmock.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>

#include "mirror/open_file.h"

namespace flockfs {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

TEST(NumbersBetweenTest, GoUpwards) { EXPECT_THAT(numbers_between(7, 10, 100), ElementsAre(8, 9, 10)); }

TEST(NumbersBetweenTest, AreNoneIfNoneWasGiven) { EXPECT_THAT(numbers_between(7, 7, 100), IsEmpty()); }

TEST(NumbersBetweenTest, StartAgainAfterTheLast) {
  EXPECT_THAT(numbers_between(98, 2, 100), ElementsAre(99, 100, 1, 2));
}

TEST(RecentProcessesTest, KnowAChildMadeSinceTheMoment) {
  RecentProcesses recent;
  recent.remember(boot_time_ns());
  const std::int64_t moment = boot_time_ns();
  const pid_t child = ::fork();
  if (child == 0) ::_exit(0);
  const auto made = recent.since(moment, boot_time_ns());
  ::waitpid(child, nullptr, 0);
  ASSERT_TRUE(made.has_value());
  EXPECT_NE(std::find(made->begin(), made->end(), child), made->end());
}

TEST(RecentProcessesTest, DoNotClaimToKnowWhatWasBeforeTheFirstLook) {
  RecentProcesses recent;
  const std::int64_t moment = boot_time_ns();
  recent.remember(boot_time_ns() + 1);
  EXPECT_FALSE(recent.since(moment, boot_time_ns() + 2).has_value());
}

TEST(RecentProcessesTest, DoNotTrustALookOfLongAgo) {
  RecentProcesses recent;
  const std::int64_t now = boot_time_ns();
  recent.remember(now);
  EXPECT_TRUE(recent.since(now, now + 1).has_value());
  EXPECT_FALSE(recent.since(now, now + 2'000'000'000).has_value());
}

}  // namespace
}  // namespace flockfs
