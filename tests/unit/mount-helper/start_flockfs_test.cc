#include "start_flockfs.h"

#include <fcntl.h>
#include <gmock/gmock.h>

namespace flockfs {
namespace {

using testing::HasSubstr;

// A shell in flockfs's place; the script is its "$0"-less command.
MountExit run_script(const std::string& script) {
  const UniqueFd shell(::open("/bin/sh", O_PATH | O_CLOEXEC));
  return run_flockfs(shell, {"flockfs", "-c", script});
}

TEST(StartFlockfsTest, ExitCodesBecomeThoseOfMount) {
  EXPECT_EQ(run_script("exit 0"), kMountOk);
  EXPECT_EQ(run_script("exit 1"), kMountFailed);
  EXPECT_EQ(run_script("exit 2"), kMountUsage);
  EXPECT_EQ(run_script("exit 77"), kMountSystem);
}

TEST(StartFlockfsTest, DeathBySignalIsASystemError) {
  testing::internal::CaptureStderr();
  EXPECT_EQ(run_script("kill -9 $$"), kMountSystem);
  EXPECT_THAT(testing::internal::GetCapturedStderr(), HasSubstr("killed by signal 9"));
}

TEST(StartFlockfsTest, ProgramThatCannotBeStartedIsASystemError) {
  const UniqueFd file(::open("/etc/passwd", O_PATH | O_CLOEXEC));
  testing::internal::CaptureStderr();
  EXPECT_EQ(run_flockfs(file, {"flockfs"}), kMountSystem);
  EXPECT_THAT(testing::internal::GetCapturedStderr(), HasSubstr("cannot start flockfs: Permission denied"));
}

TEST(StartFlockfsTest, ArgumentsAreNotInterpreted) {
  const UniqueFd shell(::open("/bin/sh", O_PATH | O_CLOEXEC));
  EXPECT_EQ(run_flockfs(shell, {"flockfs", "-c", "test \"$1\" = '$(false) \"x'", "sh", "$(false) \"x"}), kMountOk);
}

TEST(MountNamespaceTest, MissingNamespaceIsNamed) {
  const Status entered = enter_mount_namespace("/nonexistent/ns");
  ASSERT_FALSE(entered.ok());
  EXPECT_EQ(entered.error().message(), "cannot open mount namespace '/nonexistent/ns': No such file or directory");
}

TEST(MountNamespaceTest, NumberIsAProcess) {
  const Status entered = enter_mount_namespace("0");
  ASSERT_FALSE(entered.ok());
  EXPECT_THAT(entered.error().message(), HasSubstr("'/proc/0/ns/mnt'"));
}

TEST(MountNamespaceTest, FileThatIsNoNamespaceIsNamed) {
  const Status entered = enter_mount_namespace("/dev/null");
  ASSERT_FALSE(entered.ok());
  EXPECT_THAT(entered.error().message(), HasSubstr("cannot enter mount namespace '/dev/null'"));
}

}  // namespace
}  // namespace flockfs
