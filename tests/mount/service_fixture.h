#pragma once

#include <fcntl.h>
#include <sys/file.h>

#include <cerrno>
#include <csignal>
#include <memory>
#include <string>
#include <vector>

#include "harness/connection.h"
#include "harness/mirror_test.h"
#include "harness/program.h"

namespace flockfs::test {

// flockfs as a service manager starts it, mirroring the file "f".
class ServiceTest : public MirrorTest {
 protected:
  void SetUp() override { write_file(source("f"), "contents"); }

  // flockfs in the foreground, as a service manager has it.
  std::unique_ptr<Program> start(std::vector<std::string> arguments, ProgramSetup setup = {}) const {
    arguments.insert(arguments.begin(), {flockfs_program(), "--foreground"});
    return std::make_unique<Program>(arguments, setup);
  }
  [[nodiscard]] bool comes_up() const {
    return eventually([&] { return find_mount(mnt()).has_value(); });
  }
  static void stop(Program& daemon) {
    daemon.process().signal(SIGTERM);
    EXPECT_EQ(daemon.exit_code(), 0) << daemon.err();
  }
  void expect_locked_open() const {
    EXPECT_TRUE(in_child([&] {
      const UniqueFd fd(::open(mnt("f").c_str(), O_RDONLY | O_CLOEXEC));
      ASSERT_TRUE(fd) << errno_name(errno);
      EXPECT_EQ(source_lock(source("f")), LockSeen::kShared);
    }));
  }
  [[nodiscard]] std::string config(const std::string& text) const {
    const std::string path = tree() / "mirror.conf";
    write_file(path, text);
    return path;
  }
};

}  // namespace flockfs::test
