// Issue 6, point 3: configuration files (--config).

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <string>

#include "harness/users.h"
#include "service_fixture.h"

namespace flockfs::test {
namespace {

using ConfigFileTest = ServiceTest;

TEST_F(ConfigFileTest, ConfigurationIsReadAndTheCommandLineBeatsIt) {
  write_file(source("plain"), "contents");
  const std::string file = config("# a comment\n\n  source = " + source() +
                                  "  \n"
                                  "exclude = " +
                                  source("plain") +
                                  "\n"
                                  "; another\n"
                                  "log-level=debug\nro\ntimeout = 5min\n");
  const auto daemon = start({"--config", file, "--timeout=0", mnt()});
  ASSERT_TRUE(comes_up()) << daemon->err();
  const ForeignLock foreign(source("f"), LOCK_EX);
  EXPECT_TRUE(in_child([&] {
    EXPECT_EQ(open_error(mnt("f"), O_RDONLY), EAGAIN) << "timeout=0 stands on the command line";
    EXPECT_EQ(open_error(mnt("f"), O_RDWR), EROFS);
    EXPECT_EQ(read_file(mnt("plain")), "contents");
  }));
  stop(*daemon);
  EXPECT_NE(daemon->err().find("reason=exclude"), std::string::npos) << daemon->err();
}

TEST_F(ConfigFileTest, NamesInAConfigurationAreTakenAsTheyAre) {
  const std::string odd = source() + "/a#b; \"c\" \\d=e,f";
  ASSERT_EQ(::mkdir(odd.c_str(), 0755), 0);
  write_file(odd + "/f", "contents");
  const auto daemon = start({"--config", config("source = " + odd + "\nmountpoint = " + mnt() + "\n")});
  ASSERT_TRUE(comes_up()) << daemon->err();
  EXPECT_TRUE(in_child([&] { EXPECT_EQ(read_file(mnt("f")), "contents"); }));
  stop(*daemon);
}

TEST_F(ConfigFileTest, MistakesInAConfigurationAreNamed) {
  const auto complaint = [&](const std::string& text) {
    const ProgramResult result = run_program({flockfs_program(), "--config", config(text), mnt()});
    EXPECT_EQ(result.exit_code, 2) << result;
    return result.err;
  };
  const std::string good = "source = " + source() + "\n";
  const std::string path = tree() / "mirror.conf";
  EXPECT_NE(complaint(good + "\ntimeout = soon\n").find(path + ":3: option 'timeout': 'soon'"), std::string::npos);
  EXPECT_NE(complaint(good + "tiemout = 3\n").find(path + ":2: unknown option 'tiemout'"), std::string::npos);
  EXPECT_NE(complaint(good + "ro = yes\n").find(path + ":2: option 'ro' takes no value"), std::string::npos);
  EXPECT_NE(complaint(good + "prefix\n").find(path + ":2: option 'prefix' needs a value"), std::string::npos);
  EXPECT_NE(complaint("ro\n").find("MOUNTPOINT is missing"), std::string::npos);
  EXPECT_NE(complaint("source =\n").find(path + ":1: 'source' needs a path"), std::string::npos);
  ASSERT_EQ(::chmod(path.c_str(), 0666), 0);
  const ProgramResult open = run_program({flockfs_program(), "--config", path, mnt()});
  EXPECT_NE(open.err.find("'" + path + "': others may write there"), std::string::npos) << open;
  ASSERT_EQ(::chmod(path.c_str(), 0644), 0);
  ASSERT_EQ(::chown(path.c_str(), kStranger, kStrangerGroup), 0);
  const ProgramResult strange = run_program({flockfs_program(), "--config", path, mnt()});
  EXPECT_NE(strange.err.find("'" + path + "' is somebody else's"), std::string::npos) << strange;
  const ProgramResult folder = run_program({flockfs_program(), "--config", tree().path(), mnt()});
  EXPECT_NE(folder.err.find("is no regular file"), std::string::npos) << folder;
  EXPECT_FALSE(find_mount(mnt()));
}

}  // namespace
}  // namespace flockfs::test
