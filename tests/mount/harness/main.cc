#include <gtest/gtest.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "harness/mounted_mirror.h"

namespace flockfs::test {
namespace {

// What every test stands on; not set up when tests are only listed.
class TestGround : public ::testing::Environment {
 public:
  void SetUp() override {
    ASSERT_EQ(::geteuid(), 0u) << "the mount tests need root";
    ASSERT_EQ(::access("/dev/fuse", R_OK | W_OK), 0) << "the mount tests need /dev/fuse";
    ASSERT_EQ(::access(flockfs_program().c_str(), X_OK), 0) << flockfs_program() << " (FLOCKFS_BIN): not built?";
    // A mount namespace of its own: the tests cannot leave mounts behind, and see none of another test.
    ASSERT_EQ(::unshare(CLONE_NEWNS), 0) << std::strerror(errno);
    ASSERT_EQ(::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr), 0) << std::strerror(errno);
    if (::access("/sys/fs/fuse/connections", F_OK) == 0) {
      ::mount("fusectl", "/sys/fs/fuse/connections", "fusectl", 0, nullptr);  // EBUSY: it is there
    }
    // Daemons that go to the background become children of the test, so that it sees their exit status.
    ASSERT_EQ(::prctl(PR_SET_CHILD_SUBREAPER, 1), 0) << std::strerror(errno);
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
