// Issue 6, point 1: as an ordinary user, through a user namespace and without fusermount; and what is said where that
// cannot be.

#include <fcntl.h>
#include <sched.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <string>

#include "harness/faults.h"
#include "harness/status.h"
#include "harness/users.h"
#include "run_test.h"

namespace flockfs::test {
namespace {

class RunUserTest : public RunTest {
 protected:
  void SetUp() override {
    for (const std::string& path : {source(), source("f"), tree() / "scratch", tree().path()}) {
      ASSERT_EQ(::chown(path.c_str(), kStranger, kStrangerGroup), 0);
    }
  }
  [[nodiscard]] static ProgramSetup as_user() {
    ProgramSetup setup;
    setup.before_exec = [] {
      cover_dev(FuseDevice::kForAll);
      become_user(kStranger, kStrangerGroup, {kTeam});
    };
    return setup;
  }
  [[nodiscard]] bool users_may_make_namespaces() const {
    return static_cast<bool>(in_child([] {
      become_user();
      enter_own_namespaces();
    }));
  }
};

TEST_F(RunUserTest, OrdinaryUserNeedsNoHelp) {
  if (!users_may_make_namespaces()) GTEST_SKIP() << "this system does not let users do that";
  ASSERT_EQ(::mkfifo((tree() / "fifo").c_str(), 0666), 0);
  ASSERT_EQ(::chmod((tree() / "fifo").c_str(), 0666), 0);
  const auto program = start_shell(
      "id -u; id -g; grep CapEff /proc/self/status; exec 3<$S/f; touch $T/open; "
      "read line <$T/fifo; cat <&3; echo x >$S/f || exit 6",
      {}, as_user());
  ASSERT_TRUE(comes("open")) << program->err();
  EXPECT_EQ(source_lock(source("f")), LockSeen::kShared);
  write_file(tree() / "fifo", "go\n");
  EXPECT_EQ(program->exit_code(), 6) << program->err();
  EXPECT_EQ(program->out(), std::to_string(kStranger) + "\n" + std::to_string(kStrangerGroup) +
                                "\nCapEff:\t0000000000000000\ncontents");
}

TEST_F(RunUserTest, OrdinaryUserWritesAndWaits) {
  if (!users_may_make_namespaces()) GTEST_SKIP() << "this system does not let users do that";
  ForeignLock foreign(source("f"), LOCK_EX);
  const auto program = start_shell("echo changed >$S/f; echo new >$S/new", {"--rw"}, as_user());
  ASSERT_TRUE(has_flocks(source("f"), 1, 1));
  foreign.release();
  EXPECT_EQ(program->exit_code(), 0) << program->err();
  EXPECT_EQ(read_file(source("f")), "changed\n");
  EXPECT_EQ(read_file(source("new")), "new\n");
  EXPECT_EQ(stat_of(source("new")).st_uid, kStranger);
}

// The user's runtime directory has the socket; whoever lives with the mirror leads to it.
TEST_F(RunUserTest, StatusOfAnOrdinaryUsersMirror) {
  if (!users_may_make_namespaces()) GTEST_SKIP() << "this system does not let users do that";
  ASSERT_EQ(::mkdir((tree() / "runtime").c_str(), 0700), 0);
  ASSERT_EQ(::chown((tree() / "runtime").c_str(), kStranger, kStrangerGroup), 0);
  ProgramSetup setup = as_user();
  setup.environment.push_back("XDG_RUNTIME_DIR=" + (tree() / "runtime"));
  const auto program = start_shell("echo $$ >$T/pid; exec 3<$S/f; touch $T/open; exec sleep 1000", {}, setup);
  ASSERT_TRUE(comes("open")) << program->err();
  const std::string runner = std::to_string(program->pid());
  ProgramSetup as_root;
  as_root.environment = setup.environment;
  for (const ProgramSetup& asker : {setup, as_root}) {
    const ProgramResult result = run_status({"--json", runner}, asker);
    ASSERT_EQ(result.exit_code, 0) << result;
    const auto report = Json::parse(result.out);
    EXPECT_EQ(report.value("mountpoint", ""), source());
    ASSERT_EQ(report["held"].size(), 1U) << result;
    EXPECT_EQ(report["held"][0].value("path", ""), source("f"));
    EXPECT_EQ(report["held"][0].value("comm", ""), "sleep");
    EXPECT_EQ(std::to_string(report["held"][0].value("pid", 0)) + "\n", read_file(tree() / "pid"));
  }
  ProgramSetup as_another;
  as_another.before_exec = [] { become_user(kStranger + 1, kStrangerGroup); };
  const ProgramResult refused = run_status({runner}, as_another);
  EXPECT_EQ(refused.exit_code, 1) << refused;
  EXPECT_EQ(refused.out, "");
  program->process().signal(SIGKILL);
  EXPECT_EQ(program->exit_code(), 128 + SIGKILL);
  EXPECT_TRUE(all_gone());
  EXPECT_TRUE(list_dir(tree() / "runtime").empty()) << "nothing is left";
}

TEST_F(RunUserTest, NothingIsLeftWhenAnOrdinaryUsersRunnerIsKilled) {
  if (!users_may_make_namespaces()) GTEST_SKIP() << "this system does not let users do that";
  const auto program = start_shell("exec 3<$S/f; touch $T/open; exec sleep 1000", {}, as_user());
  ASSERT_TRUE(comes("open")) << program->err();
  program->process().signal(SIGKILL);
  EXPECT_EQ(program->exit_code(), 128 + SIGKILL);
  EXPECT_TRUE(all_gone());
  EXPECT_TRUE(becomes_free(source("f")));
}

TEST_F(RunUserTest, RootItselfCanBeAnOrdinaryUsersSource) {
  if (!users_may_make_namespaces()) GTEST_SKIP() << "this system does not let users do that";
  const ForeignLock foreign(source("f"), LOCK_EX);
  const auto result =
      run({"--timeout=0", "/", "--", "sh", "-c", "cat $S/f || echo refused >/dev/null; id -u"}, as_user());
  EXPECT_EQ(result.out, std::to_string(kStranger) + "\n") << result;
  EXPECT_NE(result.err.find("1 refused"), std::string::npos) << result;
}

TEST_F(RunUserTest, MissingFuseDeviceIsSaidAndNothingRuns) {
  ProgramSetup setup;
  setup.before_exec = [] { cover_dev(FuseDevice::kMissing); };
  const auto result = run({source(), "--", "echo", "ran"}, setup);
  EXPECT_EQ(result.exit_code, 125) << result;
  EXPECT_EQ(result.out, "");
  EXPECT_NE(result.err.find("/dev/fuse"), std::string::npos) << result;
  EXPECT_NE(result.err.find("modprobe fuse"), std::string::npos) << result;
}

TEST_F(RunUserTest, FuseDeviceThatMayNotBeOpenedIsSaid) {
  ProgramSetup setup;
  setup.before_exec = [] {
    cover_dev(FuseDevice::kForAll);
    ASSERT_EQ(::chmod("/dev/fuse", 0600), 0);
    become_user();
  };
  const auto result = run({source(), "--", "echo", "ran"}, setup);
  EXPECT_EQ(result.exit_code, 125) << result;
  EXPECT_EQ(result.out, "");
  EXPECT_NE(result.err.find("/dev/fuse (its permissions"), std::string::npos) << result;
}

TEST_F(RunUserTest, ForbiddenNamespacesAreSaid) {
  ProgramSetup setup = as_user();
  setup.before_exec = [] {
    cover_dev(FuseDevice::kForAll);
    make_call_fail(SYS_unshare, EPERM);
    become_user();
  };
  const auto result = run({source(), "--", "echo", "ran"}, setup);
  EXPECT_EQ(result.exit_code, 125) << result;
  EXPECT_EQ(result.out, "");
  EXPECT_NE(result.err.find("does not let ordinary users make namespaces"), std::string::npos) << result;
}

// Where the limit of user namespaces is 0, as it is here in a user namespace whose root may make no mount namespace.
TEST_F(RunUserTest, LimitOfNamespacesIsNamed) {
  ProgramSetup setup;
  setup.before_exec = [] {
    enter_own_namespaces();
    write_file("/proc/sys/user/max_user_namespaces", "0");
  };
  std::vector<std::string> words{"setpriv", "--inh-caps=-all", "--ambient-caps=-all", "--bounding-set=-sys_admin"};
  const auto runner = command({source(), "--", "echo", "ran"});
  words.insert(words.end(), runner.begin(), runner.end());
  const auto result = run_program(words, clean(setup));
  EXPECT_EQ(result.exit_code, 125) << result;
  EXPECT_EQ(result.out, "");
  EXPECT_NE(result.err.find("max_user_namespaces"), std::string::npos) << result;
}

}  // namespace
}  // namespace flockfs::test
