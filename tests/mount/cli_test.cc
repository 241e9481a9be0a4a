// Issue 2, deliverables 6 and 7: exit codes, messages that name option, path and reason, nothing left mounted; and the
// command in the background returns only when the mirror is usable.

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <filesystem>
#include <sstream>
#include <string>
#include <vector>

#include "harness/connection.h"
#include "harness/faults.h"
#include "harness/mirror_test.h"
#include "harness/program.h"
#include "harness/users.h"

namespace flockfs::test {
namespace {

class CliTest : public MirrorTest {
 protected:
  void SetUp() override { write_file(source("f"), "contents"); }

  // Runs flockfs, which has to fail: with this code, saying each of these words, and leaving nothing mounted.
  void expect_failure(const std::vector<std::string>& arguments, int code, const std::vector<std::string>& words,
                      const ProgramSetup& setup = {}) {
    std::vector<std::string> command{flockfs_program()};
    command.insert(command.end(), arguments.begin(), arguments.end());
    std::string all;
    for (const std::string& argument : arguments) all += argument + " ";
    SCOPED_TRACE(all);
    const auto result = run_program(command, setup);
    EXPECT_EQ(result.exit_code, code) << result;
    EXPECT_TRUE(result.err.starts_with("flockfs: ")) << result;
    for (const std::string& word : words) EXPECT_NE(result.err.find(word), std::string::npos) << word << "\n" << result;
    EXPECT_TRUE(result.out.empty()) << result;
    EXPECT_FALSE(find_mount(mnt())) << "something is mounted";
  }
};

// What `unshare -r` gives: root without the right to setgroups(2).
TEST_F(CliTest, UserNamespaceWithoutGroupsWillDo) {
  const char* const script = R"("$0" "$1" "$2" && cat "$2/f" && umount "$2")";
  const auto result =
      run_program({"unshare", "--map-root-user", "--mount", "sh", "-c", script, flockfs_program(), source(), mnt()});
  EXPECT_EQ(result.exit_code, 0) << result;
  EXPECT_EQ(result.out, "contents") << result;
}

TEST_F(CliTest, UsageErrorsExitWithTwoAndNameWhatIsWrong) {
  expect_failure({}, 2, {"--help"});
  expect_failure({source()}, 2, {"--help"});
  expect_failure({source(), mnt(), "third"}, 2, {"third"});
  expect_failure({"--nonsense", source(), mnt()}, 2, {"nonsense"});
  expect_failure({"-o", "nonsense", source(), mnt()}, 2, {"nonsense"});
  expect_failure({"-o", "ro,nonsense=3", source(), mnt()}, 2, {"nonsense"});
  expect_failure({"-o", "threads=none", source(), mnt()}, 2, {"threads", "none"});
  expect_failure({"-o", "threads=0", source(), mnt()}, 2, {"threads", "0"});
  expect_failure({"-o", "passthrough=maybe", source(), mnt()}, 2, {"passthrough", "maybe"});
  expect_failure({"-o", "hold_warn=soon", source(), mnt()}, 2, {"hold_warn", "soon"});
  expect_failure({"-o", "stop_timeout", source(), mnt()}, 2, {"stop_timeout"});
  expect_failure({"-o", "attr_timeout=-3", source(), mnt()}, 2, {"attr_timeout", "-3"});
  expect_failure({"-o", "ro=1", source(), mnt()}, 2, {"ro"});
  expect_failure({"-o", "log_level=loud", source(), mnt()}, 2, {"log_level", "loud"});
  expect_failure({"-o", "io_uring", source(), mnt()}, 2, {"io_uring"});
  expect_failure({"-o", "prefix=", source(), mnt()}, 2, {"prefix"});
}

TEST_F(CliTest, FailuresExitWithOneAndNameThePathAndTheReason) {
  const std::string missing = tree() / "missing";
  const std::string file = source("f");
  for (const std::string mode : {"-f", "--log-level=error"}) {  // in the foreground and in the background
    expect_failure({mode, missing, mnt()}, 1, {missing, "No such file or directory"});
    expect_failure({mode, source(), missing}, 1, {missing, "No such file or directory"});
    expect_failure({mode, file, mnt()}, 1, {file, "Not a directory"});
    expect_failure({mode, source(), file}, 1, {file, "Not a directory"});
    expect_failure({mode, "-o", "log_file=" + missing + "/log", source(), mnt()}, 1, {"log", missing});
  }
}

TEST_F(CliTest, PathOfARuleOutsideTheSourceIsNamed) {
  for (const std::string option : {"prefix", "exclude"}) {
    const auto result = run_program({flockfs_program(), "-o", option + "=/etc", source(), mnt()});
    EXPECT_TRUE(result.exit_code == 1 || result.exit_code == 2) << result;
    for (const std::string& word : {option, std::string("/etc"), source()}) {
      EXPECT_NE(result.err.find(word), std::string::npos) << result;
    }
    EXPECT_FALSE(find_mount(mnt()));
  }
}

TEST_F(CliTest, MissingFuseDeviceIsNamed) {
  const std::vector<std::string> words{"/dev/fuse", "No such file or directory", "modprobe fuse"};
  const ProgramSetup setup{.before_exec = [] { cover_dev(FuseDevice::kMissing); }};
  expect_failure({"-f", source(), mnt()}, 1, words, setup);
  expect_failure({source(), mnt()}, 1, words, setup);
}

// The threads are started when the mount is there already.
TEST_F(CliTest, FailureAfterMountingLeavesNothingMounted) {
  for (const std::string mode : {"-f", "--log-level=error"}) {
    expect_failure({mode, source(), mnt()}, 1, {"eventfd", "Too many open files"},
                   {.before_exec = [] { make_call_fail(SYS_eventfd2, EMFILE); }});
    EXPECT_TRUE(eventually([&] { return !find_daemon(mnt()); }));
    EXPECT_TRUE(in_child([&] { EXPECT_TRUE(list_dir(mnt()).empty()); }));
  }
  mount();  // and the place can be used
  EXPECT_TRUE(in_child([&] { EXPECT_EQ(read_file(mnt("f")), "contents"); }));
}

TEST_F(CliTest, UserWithoutThePrivilegeIsToldSo) {
  const ProgramSetup setup{.before_exec = [] {
    cover_dev(FuseDevice::kForAll);
    become_user();
  }};
  expect_failure({"-f", source(), mnt()}, 1, {mnt(), "Operation not permitted"}, setup);
  expect_failure({source(), mnt()}, 1, {mnt(), "Operation not permitted"}, setup);
}

TEST_F(CliTest, UserWhoMayNotOpenTheDeviceIsToldSo) {
  const ProgramSetup setup{.before_exec = [] {
    cover_dev(FuseDevice::kForAll);
    ::chmod("/dev/fuse", 0600);
    become_user();
  }};
  expect_failure({"-f", source(), mnt()}, 1, {"/dev/fuse", "Permission denied"}, setup);
}

TEST_F(CliTest, HelpFitsEightyColumnsAndNamesEveryOption) {
  const auto result = run_program({flockfs_program(), "--help"});
  EXPECT_EQ(result.exit_code, 0) << result;
  EXPECT_TRUE(result.err.empty()) << result;
  std::istringstream lines(result.out);
  for (std::string line; std::getline(lines, line);) EXPECT_LE(line.size(), 80u) << line;
  for (const std::string option : {"prefix", "exclude", "hold", "stop", "ro", "noatime", "allow", "passthrough", "attr",
                                   "entry", "threads", "debug", "foreground", "log", "-h", "-V", "-o", "-d", "-f"}) {
    EXPECT_NE(result.out.find(option), std::string::npos) << option;
  }
  EXPECT_EQ(run_program({flockfs_program(), "-h"}).out, result.out);
}

TEST_F(CliTest, VersionIsPrinted) {
  for (const std::string option : {"-V", "--version"}) {
    const auto result = run_program({flockfs_program(), option});
    EXPECT_EQ(result.exit_code, 0) << result;
    EXPECT_TRUE(result.out.starts_with("flockfs ")) << result;
  }
}

TEST_F(CliTest, BackgroundCommandReturnsWhenTheMirrorIsUsable) {
  for (int round = 0; round < 10; ++round) {
    MirrorSetup setup;
    setup.foreground = false;
    mount(setup);  // has waited for the command, and for nothing else
    EXPECT_TRUE(in_child([&] { EXPECT_EQ(read_file(mnt("f")), "contents"); }));
    EXPECT_EQ(mirror().messages(), "");
    unmount();
  }
}

TEST_F(CliTest, BackgroundDaemonLetsGoOfItsCaller) {
  MirrorSetup setup;
  setup.foreground = false;
  setup.program.directory = tree().path();
  mount(setup);
  const std::string proc = "/proc/" + std::to_string(mirror().daemon());
  EXPECT_EQ(std::filesystem::read_symlink(proc + "/cwd"), "/");
  for (const std::string fd : {"/fd/0", "/fd/1", "/fd/2"}) {
    EXPECT_EQ(std::filesystem::read_symlink(proc + fd), "/dev/null") << fd;
  }
  EXPECT_NE(::getsid(mirror().daemon()), ::getsid(0));
}

TEST_F(CliTest, BackgroundDaemonStopsBySignal) {
  MirrorSetup setup;
  setup.foreground = false;
  mount(setup);
  ::kill(mirror().daemon(), SIGTERM);
  EXPECT_EQ(mirror().daemon_exit(), 0);
  EXPECT_FALSE(mirror().is_mounted());
}

TEST_F(CliTest, ForegroundWritesItsLogToStderr) {
  Program flockfs({flockfs_program(), "-d", source(), mnt()});
  ASSERT_TRUE(eventually([&] { return find_mount(mnt()).has_value(); }));
  const Guardian guardian(find_mount(mnt())->minor, mnt(), flockfs.pid(), Millis(60000));
  EXPECT_TRUE(in_child([&] { EXPECT_EQ(read_file(mnt("f")), "contents"); }));
  EXPECT_TRUE(eventually([&] { return flockfs.err().find("event=lock path=\"" + source("f")) != std::string::npos; }))
      << flockfs.err();
  flockfs.process().signal(SIGINT);
  EXPECT_EQ(flockfs.exit_code(), 0);
  EXPECT_FALSE(find_mount(mnt()));
}

TEST_F(CliTest, AwkwardOperandsWork) {
  const std::vector<std::string> names{"-dash", "a blank", "com,ma", "new\nline", "back\\slash", "\xff\xfe"};
  for (const std::string& name : names) {
    SCOPED_TRACE(name);
    make_dir(tree() / (name + "-source"));
    make_dir(tree() / (name + "-mnt"));
    write_file(tree() / (name + "-source/f"), name);
    ProgramSetup setup;
    setup.directory = tree().path();  // relative operands, one of which begins with a dash
    const auto result = run_program({flockfs_program(), "-o", "ro", "--", name + "-source", name + "-mnt"}, setup);
    ASSERT_EQ(result.exit_code, 0) << result;
    const std::string mountpoint = tree() / (name + "-mnt");
    EXPECT_TRUE(find_mount(mountpoint));
    EXPECT_TRUE(find_daemon(mountpoint));
    EXPECT_TRUE(in_child([&] { EXPECT_EQ(read_file(mountpoint + "/f"), name); }));
    EXPECT_TRUE(eventually([&] { return run_program({"umount", "--", mountpoint}).exit_code == 0; }));
    EXPECT_TRUE(eventually([&] { return !find_daemon(mountpoint); }));
  }
}

// With few descriptors: what has been seen costs none, and what is too much fails at open(2), not later.
TEST_F(CliTest, FewDescriptorsAreEnoughForManyFiles) {
  make_dir(source("d"));
  for (int i = 0; i < 400; ++i) {
    ASSERT_EQ(::mknod(source("d/f" + std::to_string(i)).c_str(), S_IFREG | 0644, 0), 0);
  }
  MirrorSetup setup;
  setup.program.before_exec = [] {
    const rlimit few{128, 128};
    ::setrlimit(RLIMIT_NOFILE, &few);
  };
  mount(setup);
  EXPECT_TRUE(in_child([&] {
    for (const std::string& name : list_dir(mnt("d"))) EXPECT_EQ(read_file(mnt("d/" + name)), "");
  }));
  mirror().expect_error("no descriptor left");
  EXPECT_TRUE(in_child([&] {
    std::vector<UniqueFd> open;
    int error = 0;
    for (int i = 0; i < 400 && error == 0; ++i) {
      open.emplace_back(::open(mnt("d/f" + std::to_string(i)).c_str(), O_RDONLY | O_CLOEXEC));
      if (!open.back()) error = errno;
    }
    EXPECT_TRUE(error == 0 || error == ENFILE || error == EMFILE) << errno_name(error);
    EXPECT_GT(open.size(), 50u);
    // Others are still served, and those that are open can be read.
    EXPECT_EQ(stat_of(mnt("d/f399")).st_size, 0);
    EXPECT_EQ(read_all(open.front().get()), "");
    open.clear();
  }));
  EXPECT_TRUE(eventually(
      [&] { return static_cast<bool>(in_child([&] { EXPECT_EQ(open_error(mnt("d/f399"), O_RDWR), 0); })); }));
}

}  // namespace
}  // namespace flockfs::test
