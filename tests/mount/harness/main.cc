#include <gtest/gtest.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>

#include "harness/mounted_mirror.h"

namespace flockfs::test {
namespace {

// Not a failed assertion: those in an Environment make the tests count as skipped.
void require(bool condition, const std::string& what) {
  if (condition) return;
  std::fprintf(stderr, "the mount tests cannot run: %s (%s)\n", what.c_str(), std::strerror(errno));
  std::exit(1);
}

// What every test stands on; not set up when tests are only listed.
class TestGround : public ::testing::Environment {
 public:
  void SetUp() override {
    require(::access("/dev/fuse", R_OK | W_OK) == 0, "/dev/fuse");
    require(::access(flockfs_program().c_str(), X_OK) == 0, flockfs_program() + " from the build or $FLOCKFS_BIN");
    // A mount namespace of its own: the tests cannot leave mounts behind, and see none of another test.
    require(::unshare(CLONE_NEWNS) == 0, "unshare; are you root?");
    require(::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == 0, "making / private");
    if (::access("/sys/fs/fuse/connections", F_OK) == 0) {
      ::mount("fusectl", "/sys/fs/fuse/connections", "fusectl", 0, nullptr);  // EBUSY: it is there
    }
    // Daemons that go to the background become children of the test, so that it sees their exit status.
    require(::prctl(PR_SET_CHILD_SUBREAPER, 1) == 0, "PR_SET_CHILD_SUBREAPER");
    const rlimit no_core{0, 0};
    ::setrlimit(RLIMIT_CORE, &no_core);
    ::umask(022);
  }
};

}  // namespace
}  // namespace flockfs::test

int main(int argc, char** argv) {
  ::testing::InitGoogleTest(&argc, argv);
  ::testing::AddGlobalTestEnvironment(new flockfs::test::TestGround);
  return RUN_ALL_TESTS();
}
