// DESIGN 4.6: where the kernel offers passthrough but refuses to register a file (EPERM, in a user namespace), the
// whole mount goes on without it, and says so once.

#include <fcntl.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <string>

#include "harness/crowd.h"
#include "harness/faults.h"
#include "harness/mirror_test.h"

namespace flockfs::test {
namespace {

class PassthroughFallbackTest : public MirrorTest {
 protected:
  void SetUp() override {
    for (int i = 0; i < kFiles; ++i) write_file(source(name(i)), "contents");
    MirrorSetup setup;
    setup.options.emplace_back("passthrough=auto");
    setup.program.before_exec = [] { make_call_fail(SYS_ioctl, EPERM); };
    mount(setup);
    const auto mounted = log().wait_for({.event = "mounted"});
    ASSERT_TRUE(mounted);
    if (mounted->get("passthrough") != "on") GTEST_SKIP() << "this kernel has no passthrough";
  }
  static std::string name(int number) { return "f" + std::to_string(number); }
  void expect_one_line() const {
    EXPECT_TRUE(log().wait_for({.event = "passthrough"}));
    const auto lines = log().matching({.event = "passthrough"});
    ASSERT_EQ(lines.size(), 1u) << log().text();
    EXPECT_EQ(lines[0].get("state"), "off");
    EXPECT_EQ(lines[0].get("reason"), "EPERM");
  }

  static constexpr int kFiles = 20;
};

TEST_F(PassthroughFallbackTest, FilesAreReadWrittenAndMapped) {
  EXPECT_TRUE(in_child([&] {
    EXPECT_EQ(read_file(mnt("f0")), "contents");
    write_file(mnt("f0"), "written");
    append_file(mnt("f0"), " and appended");
    EXPECT_EQ(read_file(mnt("f0")), "written and appended");
    write_file(mnt("new"), "new");
    const UniqueFd fd = open_file(mnt("f1"), O_RDWR);
    void* const map = ::mmap(nullptr, 8, PROT_READ | PROT_WRITE, MAP_SHARED, fd.get(), 0);
    ASSERT_NE(map, MAP_FAILED);
    EXPECT_EQ(std::memcmp(map, "contents", 8), 0);
    std::memcpy(map, "CONTENTS", 8);
    EXPECT_EQ(::msync(map, 8, MS_SYNC), 0);
    ::munmap(map, 8);
  }));
  EXPECT_EQ(read_file(source("f0")), "written and appended");
  EXPECT_EQ(read_file(source("f1")), "CONTENTS");
  EXPECT_EQ(read_file(source("new")), "new");
  expect_one_line();
}

TEST_F(PassthroughFallbackTest, OpensLockAndWait) {
  for (const int flags : {O_RDONLY, O_RDWR}) {
    SCOPED_TRACE(flags);
    ForeignLock foreign(source("f0"), LOCK_EX);
    Opener opener(mnt("f0"), flags);
    ASSERT_TRUE(mirror().waits(opener.pid()));
    EXPECT_TRUE(opener.is_waiting());
    ASSERT_EQ(::pwrite(open_file(source("f0"), O_WRONLY).get(), "CONT", 4, 0), 4);
    foreign.release();
    ASSERT_TRUE(opener.opens());
    EXPECT_EQ(opener.contents(), "CONTents");
    EXPECT_EQ(source_lock(source("f0")), flags == O_RDONLY ? LockSeen::kShared : LockSeen::kExclusive);
    opener.close();
    EXPECT_TRUE(becomes_free(source("f0")));
  }
  expect_one_line();
}

TEST_F(PassthroughFallbackTest, ManyAtTheSameTimeFindOutOnce) {
  Crowd crowd(kFiles * 4, [&](int index) { return open_error(mnt(name(index % kFiles)), O_RDONLY); });
  EXPECT_TRUE(crowd.all_succeed());
  expect_one_line();
}

}  // namespace
}  // namespace flockfs::test
