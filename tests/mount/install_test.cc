// What `cmake --install` puts below a prefix works from there, wherever that is.

#include <fcntl.h>
#include <sys/mount.h>

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "harness/connection.h"
#include "harness/guardian.h"
#include "harness/mirror_test.h"
#include "harness/program.h"

namespace flockfs::test {
namespace {

class InstallTest : public MirrorTest {
 protected:
  void SetUp() override {
    write_file(source("f"), "contents");
    const auto installed =
        run_program({"cmake", "--install", build_directory(), "--prefix", prefix()}, {}, kPatience * 4);
    ASSERT_EQ(installed.exit_code, 0) << installed;
  }
  [[nodiscard]] std::string prefix() const { return tree() / "prefix"; }

  // Of the process that runs the installed flockfs.
  [[nodiscard]] std::optional<pid_t> installed_daemon() const {
    std::error_code error;
    for (const std::string& name : list_dir("/proc")) {
      if (std::filesystem::read_symlink("/proc/" + name + "/exe", error) == prefix() + "/bin/flockfs") {
        return std::stoi(name);
      }
    }
    return std::nullopt;
  }
};

// The helper starts the flockfs that was installed with it, not one from $PATH or from the place that was configured.
TEST_F(InstallTest, InstalledHelperMountsByTheInstalledProgram) {
  for (const std::string helper : {"mount.flockfs", "mount.fuse.flockfs"}) {
    SCOPED_TRACE(helper);
    const auto mounted = run_program({prefix() + "/sbin/" + helper, source(), mnt()});
    ASSERT_EQ(mounted.exit_code, 0) << mounted;
    const auto entry = find_mount(mnt());
    ASSERT_TRUE(entry);
    EXPECT_EQ(entry->type, "fuse.flockfs");
    const auto daemon = installed_daemon();
    ASSERT_TRUE(daemon) << "another flockfs serves it";
    const Guardian guardian(entry->minor, mnt(), *daemon, Millis(60000));
    Opener opener(mnt("f"), O_RDWR);
    ASSERT_TRUE(opener.opens());
    EXPECT_EQ(source_lock(source("f")), LockSeen::kExclusive);
    opener.close();
    EXPECT_TRUE(eventually([&] { return run_program({"umount", mnt()}).exit_code == 0; }));
    EXPECT_TRUE(eventually([&] { return !installed_daemon(); }));
  }
}

TEST_F(InstallTest, NothingIsInstalledThatGivesRights) {
  for (const std::string program : {"bin/flockfs", "bin/flockfs-run", "sbin/mount.flockfs"}) {
    EXPECT_EQ(stat_of(prefix() + "/" + program).st_mode & 07777, 0755u) << program;
  }
}

TEST_F(InstallTest, PagesAndCompletionsAreWhereTheyAreLookedFor) {
  std::vector<std::string> files{"man/man8/flockfs.8", "man/man8/mount.flockfs.8", "man/man1/flockfs-run.1",
                                 "man/man1/flockfs-status.1", "zsh/vendor-completions/_flockfs"};
  for (const std::string program : {"flockfs", "flockfs-run", "flockfs-status", "mount.flockfs"}) {
    files.push_back("bash-completion/completions/" + program);
    files.push_back("fish/vendor_completions.d/" + program + ".fish");
  }
  for (const std::string& file : files) {
    // Through the links of those that are for several programs.
    EXPECT_TRUE(std::filesystem::is_regular_file(prefix() + "/share/" + file)) << file;
  }
}

}  // namespace
}  // namespace flockfs::test
