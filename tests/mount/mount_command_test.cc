// Issue 2, deliverable 5: mount.flockfs under mount(8), fstab lines of both types, umount; names with blanks, commas
// and a leading dash.

#include <fcntl.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "harness/connection.h"
#include "harness/file_systems.h"
#include "harness/guardian.h"
#include "harness/mirror_test.h"
#include "harness/program.h"

namespace flockfs::test {
namespace {

class MountCommandTest : public MirrorTest {
 protected:
  void SetUp() override {
    write_file(source("f"), "contents");
    const std::string helper = mount_helper_program();
    ASSERT_EQ(::access(helper.c_str(), X_OK), 0) << helper;
    // mount(8) looks for its helpers in /sbin only: here that is covered, for this test alone, by a layer with ours.
    const std::string sbin = std::filesystem::canonical("/sbin");
    const std::string layer = folder("sbin");
    for (const std::string name : {"mount.flockfs", "mount.fuse.flockfs"}) {
      ASSERT_EQ(::symlink(helper.c_str(), (layer + "/" + name).c_str()), 0);
    }
    ASSERT_EQ(mount_overlay(sbin, layer, folder("sbin-work"), sbin), 0);
  }
  void TearDown() override { ::umount2(std::filesystem::canonical("/sbin").c_str(), MNT_DETACH); }

  // The mirror at `mountpoint` works, and ends when it is unmounted by umount(8).
  void expect_mirror(const std::string& from, const std::string& mountpoint) {
    const auto entry = find_mount(mountpoint);
    ASSERT_TRUE(entry) << mountpoint;
    EXPECT_EQ(entry->type, "fuse.flockfs");
    EXPECT_EQ(entry->source, from);
    const auto daemon = find_daemon(mountpoint);
    ASSERT_TRUE(daemon);
    const Guardian guardian(entry->minor, mountpoint, *daemon, Millis(60000));
    Opener opener(mountpoint + "/f", O_RDWR);
    ASSERT_TRUE(opener.opens());
    EXPECT_EQ(source_lock(from + "/f"), LockSeen::kExclusive);
    opener.close();
    EXPECT_EQ(umount(mountpoint), 0);
    EXPECT_FALSE(find_mount(mountpoint));
    EXPECT_TRUE(eventually([&] { return !find_daemon(mountpoint); }));
  }
  int umount(const std::string& mountpoint) {
    int code = 0;
    EXPECT_TRUE(eventually([&] { return (code = run_program({"umount", "--", mountpoint}).exit_code) == 0; }));
    return code;
  }
  ProgramResult run_mount(std::vector<std::string> arguments, const ProgramSetup& setup = {}) {
    arguments.insert(arguments.begin(), "mount");
    return run_program(arguments, setup, kPatience * 2);
  }
};

TEST_F(MountCommandTest, BothTypesWork) {
  for (const std::string type : {"flockfs", "fuse.flockfs"}) {
    SCOPED_TRACE(type);
    const auto result = run_mount({"-t", type, source(), mnt()});
    ASSERT_EQ(result.exit_code, 0) << result;
    EXPECT_EQ(result.err, "");
    expect_mirror(source(), mnt());
  }
}

TEST_F(MountCommandTest, OptionsReachTheMirror) {
  const std::string log_file = tree() / "log";
  const std::string options =
      "ro,nodev,noatime,attr_timeout=5,log_level=debug,log_file=" + log_file + ",x-any=1,nofail";
  const auto result = run_mount({"-t", "flockfs", "-o", options, source(), mnt()});
  ASSERT_EQ(result.exit_code, 0) << result;
  EXPECT_TRUE(in_child([&] {
    EXPECT_EQ(read_file(mnt("f")), "contents");
    EXPECT_EQ(open_error(mnt("f"), O_RDWR), EROFS);
  }));
  const LogReader log(log_file);
  EXPECT_TRUE(log.wait_for({.event = "lock", .path = source("f")})) << log.text();
  EXPECT_EQ(umount(mnt()), 0);
  EXPECT_TRUE(eventually([&] { return !find_daemon(mnt()); }));
}

TEST_F(MountCommandTest, FstabLinesOfBothTypesWork) {
  const std::string fstab = tree() / "fstab";
  for (const std::string type : {"flockfs", "fuse.flockfs"}) {
    SCOPED_TRACE(type);
    write_file(fstab, source() + " " + mnt() + " " + type + " defaults,noauto,attr_timeout=2,comment=ours 0 0\n");
    const auto result = run_mount({"--fstab", fstab, mnt()});
    ASSERT_EQ(result.exit_code, 0) << result;
    expect_mirror(source(), mnt());
  }
}

TEST_F(MountCommandTest, MountAllMountsIt) {
  const std::string fstab = tree() / "fstab";
  write_file(fstab, source() + " " + mnt() + " flockfs nofail,_netdev,X-ours 0 0\n");
  const auto result = run_mount({"--all", "--fstab", fstab});
  ASSERT_EQ(result.exit_code, 0) << result;
  expect_mirror(source(), mnt());
}

TEST_F(MountCommandTest, MountAllTwiceMountsItOnce) {
  const std::string fstab = tree() / "fstab";
  write_file(fstab, source() + " " + mnt() + " flockfs ro 0 0\n");
  ASSERT_EQ(run_mount({"--all", "--fstab", fstab}).exit_code, 0);
  const auto daemon = find_daemon(mnt());
  const auto again = run_mount({"--all", "--fstab", fstab});
  EXPECT_EQ(again.exit_code, 0) << again;
  EXPECT_EQ(find_daemon(mnt()), daemon);
  EXPECT_EQ(umount(mnt()), 0);
  EXPECT_FALSE(find_mount(mnt())) << "there was a second one";
  EXPECT_TRUE(eventually([&] { return !find_daemon(mnt()); }));
}

// `mount -a` leaves alone what is in the mount table, dead or alive (util-linux); a mount of it by name does not.
TEST_F(MountCommandTest, DeadMirrorIsReplaced) {
  const std::string fstab = tree() / "fstab";
  write_file(fstab, source() + " " + mnt() + " flockfs defaults 0 0\n");
  ASSERT_EQ(run_mount({"--all", "--fstab", fstab}).exit_code, 0);
  kill_daemon_at(mnt());
  EXPECT_EQ(run_mount({"--all", "--fstab", fstab}).exit_code, 0);
  const auto result = run_mount({"--fstab", fstab, mnt()});
  ASSERT_EQ(result.exit_code, 0) << result;
  expect_mirror(source(), mnt());
}

// As fstab(5) has it, and with a backslash before the commas of an option's value.
std::string escaped_for_fstab(const std::string& path) {
  std::string text;
  for (const char c : path) text += c == ' ' ? "\\040" : c == ',' ? "\\134," : std::string(1, c);
  return text;
}

TEST_F(MountCommandTest, AwkwardNamesWorkInFstab) {
  const std::string from = tree() / "a source with -everything";
  const std::string to = tree() / "-a mountpoint";
  make_dir(from);
  make_dir(to);
  make_dir(from + "/x, y");
  write_file(from + "/x, y/below", "contents");
  write_file(from + "/f", "contents");
  const std::string fstab = tree() / "fstab";
  const std::string log_file = tree() / "log";
  const std::string line = escaped_for_fstab(from) + " " + escaped_for_fstab(to) + " flockfs ";
  write_file(fstab, line + "prefix=" + escaped_for_fstab(from + "/x, y") + ",debug,log_file=" + log_file + " 0 0\n");
  const auto result = run_mount({"--fstab", fstab, to});
  ASSERT_EQ(result.exit_code, 0) << result;
  ASSERT_TRUE(find_mount(to) && find_daemon(to));
  {
    const Guardian guardian(find_mount(to)->minor, to, *find_daemon(to), Millis(60000));
    Opener below(to + "/x, y/below", O_RDWR);
    ASSERT_TRUE(below.opens());
    EXPECT_EQ(source_lock(from + "/x, y/below"), LockSeen::kExclusive);
    below.close();
    Opener elsewhere(to + "/f", O_RDWR);
    ASSERT_TRUE(elsewhere.opens());
    EXPECT_EQ(source_lock(from + "/f"), LockSeen::kFree);
    elsewhere.close();
    const LogReader log(log_file);
    EXPECT_TRUE(log.wait_for({.event = "pass", .path = from + "/f", .reason = "prefix"})) << log.text();
    EXPECT_EQ(umount(to), 0);
    EXPECT_TRUE(eventually([&] { return !find_daemon(to); }));
  }
  // Without its second half it is another path, which says that blank and comma have arrived as they are.
  write_file(fstab, line + "prefix=/elsewhere" + escaped_for_fstab("/x, y") + " 0 0\n");
  const auto refused = run_mount({"--fstab", fstab, to});
  EXPECT_EQ(refused.exit_code, 1) << refused;
  EXPECT_NE(refused.err.find("'/elsewhere/x, y' is outside SOURCE '" + from + "'"), std::string::npos) << refused;
  EXPECT_FALSE(find_mount(to));
}

TEST_F(MountCommandTest, SourceWithACommaWorksInFstab) {
  const std::string from = tree() / "a source, with -everything";
  make_dir(from);
  write_file(from + "/f", "contents");
  const std::string fstab = tree() / "fstab";
  std::string name = from;
  for (auto at = name.find(' '); at != std::string::npos; at = name.find(' ')) name.replace(at, 1, "\\040");
  write_file(fstab, name + " " + mnt() + " flockfs ro,rw 0 0\n");
  const auto result = run_mount({"--fstab", fstab, mnt()});
  ASSERT_EQ(result.exit_code, 0) << result;
  expect_mirror(from, mnt());
}

TEST_F(MountCommandTest, OperandsWithALeadingDashWork) {
  make_dir(tree() / "-source");
  make_dir(tree() / "-mnt");
  write_file(tree() / "-source/f", "contents");
  ProgramSetup setup;
  setup.directory = tree().path();
  const auto by_mount = run_mount({"-t", "flockfs", "--", "-source", "-mnt"}, setup);
  ASSERT_EQ(by_mount.exit_code, 0) << by_mount;
  expect_mirror(tree() / "-source", tree() / "-mnt");
  const auto by_helper = run_program({mount_helper_program(), "--", "-source", "-mnt"}, setup);
  ASSERT_EQ(by_helper.exit_code, 0) << by_helper;
  expect_mirror(tree() / "-source", tree() / "-mnt");
}

// A name that would do something if it ever came to a shell.
TEST_F(MountCommandTest, NoShellReadsTheNames) {
  const std::string from = tree() / "$(touch PWNED); `touch PWNED` 'x' \"y\" & touch PWNED";
  make_dir(from);
  write_file(from + "/f", "contents");
  ProgramSetup setup;
  setup.directory = tree().path();
  for (const std::string type : {"flockfs", "fuse.flockfs"}) {
    const auto result = run_mount({"-t", type, from, mnt()}, setup);
    ASSERT_EQ(result.exit_code, 0) << result;
    expect_mirror(from, mnt());
  }
  EXPECT_FALSE(exists(tree() / "PWNED"));
  EXPECT_FALSE(exists("/PWNED"));
}

TEST_F(MountCommandTest, FailuresHaveMountsExitCodes) {
  const auto missing = run_mount({"-t", "flockfs", tree() / "missing", mnt()});
  EXPECT_EQ(missing.exit_code, 32) << missing;
  EXPECT_NE(missing.err.find("missing"), std::string::npos) << missing;
  const auto unknown = run_mount({"-t", "flockfs", "-o", "nonsense=1", source(), mnt()});
  EXPECT_NE(unknown.exit_code, 0) << unknown;
  EXPECT_NE(unknown.err.find("nonsense"), std::string::npos) << unknown;
  EXPECT_FALSE(find_mount(mnt()));
}

TEST_F(MountCommandTest, SloppyIgnoresUnknownOptions) {
  const auto result = run_mount({"-t", "flockfs", "-s", "-o", "nonsense=1", source(), mnt()});
  ASSERT_EQ(result.exit_code, 0) << result;
  expect_mirror(source(), mnt());
}

TEST_F(MountCommandTest, FakeMountChecksAndMountsNothing) {
  EXPECT_EQ(run_program({mount_helper_program(), source(), mnt(), "-f"}).exit_code, 0);
  EXPECT_FALSE(find_mount(mnt()));
  EXPECT_EQ(run_program({mount_helper_program(), tree() / "missing", mnt(), "-f"}).exit_code, 32);
  EXPECT_EQ(run_program({mount_helper_program(), source(), mnt(), "-f", "-o", "nonsense"}).exit_code, 1);
}

TEST_F(MountCommandTest, HelperTakesItsOptionsBehindTheOperands) {
  const auto result =
      run_program({mount_helper_program(), source(), mnt(), "-r", "-n", "-t", "flockfs", "-o", "noexec"});
  ASSERT_EQ(result.exit_code, 0) << result;
  const auto entry = find_mount(mnt());
  ASSERT_TRUE(entry);
  EXPECT_NE(("," + entry->mount_options + ",").find(",ro,"), std::string::npos) << entry->mount_options;
  EXPECT_NE(entry->mount_options.find("noexec"), std::string::npos);
  EXPECT_EQ(umount(mnt()), 0);
  EXPECT_TRUE(eventually([&] { return !find_daemon(mnt()); }));
}

TEST_F(MountCommandTest, NamespaceOfAnotherProcessIsMountedIn) {
  Child other([&](Peer& test) {
    ASSERT_EQ(::unshare(CLONE_NEWNS), 0);
    ASSERT_EQ(::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr), 0);
    test.say("apart");
    test.await("look");
    EXPECT_TRUE(find_mount(mnt()));
    EXPECT_EQ(read_file(mnt("f")), "contents");
    EXPECT_EQ(::umount2(mnt().c_str(), 0), 0);
  });
  ASSERT_TRUE(other.says("apart"));
  const auto result = run_program({mount_helper_program(), source(), mnt(), "-N", std::to_string(other.pid())});
  ASSERT_EQ(result.exit_code, 0) << result;
  EXPECT_FALSE(find_mount(mnt()));
  other.say("look");
  EXPECT_TRUE(other.ends_well());
  EXPECT_TRUE(eventually([&] { return !find_daemon(mnt()); }));
}

}  // namespace
}  // namespace flockfs::test
