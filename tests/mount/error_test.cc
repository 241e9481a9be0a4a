// DESIGN 1.11: errors surface at open(2), never in the middle of a read; and what fails is said in the log.

#include <fcntl.h>
#include <linux/capability.h>
#include <sys/file.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <string>
#include <utility>
#include <vector>

#include "harness/faults.h"
#include "harness/mirror_test.h"
#include "harness/program.h"

namespace flockfs::test {
namespace {

class ErrorTest : public PassthroughTest {
 protected:
  void SetUp() override { write_file(source("f"), "contents"); }
};
INSTANTIATE_TEST_SUITE_P(Mount, ErrorTest, BothPassthroughs(), passthrough_name);

// A file system that cannot lock: nothing may be opened as if it were locked. The mount may be refused altogether.
TEST_P(ErrorTest, LockThatCannotBeTakenFailsTheOpen) {
  MirrorSetup setup;
  setup.program.before_exec = [] { make_call_fail(SYS_flock, ENOLCK); };
  try {
    mount(setup);
  } catch (const std::runtime_error& refused) {
    const std::string why = refused.what();
    EXPECT_TRUE(why.find("ENOLCK") != std::string::npos || why.find("No locks available") != std::string::npos) << why;
    return;
  }
  mirror().expect_error("source/");
  EXPECT_TRUE(in_child([&] {
    EXPECT_EQ(open_error(mnt("f"), O_RDONLY), ENOLCK);
    EXPECT_EQ(open_error(mnt("f"), O_RDWR | O_TRUNC), ENOLCK);
    EXPECT_EQ(open_error(mnt("new"), O_RDWR | O_CREAT), ENOLCK);
  }));
  const auto entry = log().wait_for({.event = "error", .path = source("f")});
  ASSERT_TRUE(entry) << log().text();
  EXPECT_FALSE(entry->get("op").empty());
  EXPECT_EQ(entry->get("reason"), "No locks available");
  EXPECT_EQ(read_file(source("f")), "contents");
  EXPECT_FALSE(exists(source("new")));
}

TEST_P(ErrorTest, AnswersOfTheSourceReachTheOpener) {
  write_file(source("program"), read_file(find_program("sleep")), 0755);
  mount();
  Program running({source("program"), "1000"});
  const auto is_running = [&] { return read_file("/proc/" + std::to_string(running.pid()) + "/comm") == "program\n"; };
  ASSERT_TRUE(eventually(is_running));
  mirror().expect_error("source/program");
  EXPECT_TRUE(in_child([&] {
    EXPECT_EQ(open_error(mnt("program"), O_WRONLY), ETXTBSY);
    EXPECT_EQ(open_error(mnt("program"), O_RDWR | O_TRUNC), ETXTBSY);
    EXPECT_EQ(open_error(mnt("program"), O_RDONLY), 0);
    EXPECT_EQ(open_error(mnt("missing"), O_RDONLY), ENOENT);
    EXPECT_EQ(open_error(mnt("f/below"), O_RDONLY), ENOTDIR);
    EXPECT_EQ(open_error(mnt("f"), O_RDONLY | O_DIRECTORY), ENOTDIR);
    EXPECT_EQ(open_error(mnt(), O_WRONLY), EISDIR);
    EXPECT_EQ(open_error(mnt("f"), O_WRONLY | O_CREAT | O_EXCL), EEXIST);
  }));
  EXPECT_TRUE(becomes_free(source("program")));
}

TEST_P(ErrorTest, ImmutableFileIsRefusedAtOpen) {
  ASSERT_EQ(run_program({"chattr", "+i", source("f")}).exit_code, 0);
  mount();
  mirror().expect_error("source/f");
  EXPECT_TRUE(in_child([&] {
    EXPECT_EQ(open_error(source("f"), O_WRONLY), EPERM);
    EXPECT_EQ(open_error(mnt("f"), O_WRONLY), EPERM);
    EXPECT_EQ(open_error(mnt("f"), O_RDONLY), 0);
    EXPECT_EQ(::unlink(mnt("f").c_str()), -1);
  }));
  EXPECT_EQ(run_program({"chattr", "-i", source("f")}).exit_code, 0);
  EXPECT_TRUE(becomes_free(source("f")));
}

// It can be opened for appending and for nothing else that writes.
TEST_P(ErrorTest, AppendOnlyFileIsOpenedAsOnTheSource) {
  for (const std::string name : {"native", "mirrored"}) {
    write_file(source(name), "one,");
    ASSERT_EQ(run_program({"chattr", "+a", source(name)}).exit_code, 0);
  }
  mount();
  mirror().expect_error("source/mirrored");
  EXPECT_TRUE(in_child([&] {
    for (const int flags : {O_RDONLY, O_WRONLY, O_RDWR, O_WRONLY | O_APPEND, O_RDWR | O_APPEND,
                            O_WRONLY | O_APPEND | O_TRUNC, O_RDONLY | O_TRUNC}) {
      EXPECT_EQ(open_error(mnt("mirrored"), flags), open_error(source("native"), flags)) << flags;
    }
    EXPECT_EQ(::truncate(mnt("mirrored").c_str(), 1), -1);
    EXPECT_EQ(errno, EPERM);
    const UniqueFd fd = open_file(mnt("mirrored"), O_WRONLY | O_APPEND);
    EXPECT_EQ(::write(fd.get(), "two", 3), 3);
  }));
  for (const std::string name : {"native", "mirrored"}) {
    EXPECT_EQ(run_program({"chattr", "-a", source(name)}).exit_code, 0);
  }
  EXPECT_EQ(read_file(source("mirrored")), "one,two");
  EXPECT_TRUE(becomes_free(source("mirrored")));
}

// However much the machine would allow: the daemon, root as it is, has no right to raise its limit.
void keep_to_few_descriptors() {
  const rlimit few{128, 128};
  if (::prctl(PR_CAPBSET_DROP, CAP_SYS_RESOURCE) != 0 || ::setrlimit(RLIMIT_NOFILE, &few) != 0) ::_exit(126);
}

TEST_P(ErrorTest, OpenForWhichNoDescriptorIsLeftFailsAndIsSaidOnce) {
  for (int i = 0; i < 200; ++i) write_file(source("many" + std::to_string(i)), "text");
  MirrorSetup setup;
  setup.program.before_exec = keep_to_few_descriptors;
  mount(setup);
  mirror().expect_error("no descriptor left");
  ForeignLock foreign(source("f"), LOCK_EX);
  Opener waiter(mnt("f"), O_RDWR);
  ASSERT_TRUE(mirror().waits(waiter.pid()));
  Child hoarder([&](Peer& test) {
    std::vector<UniqueFd> open;
    int error = 0;
    for (int i = 0; i < 200; ++i) {
      UniqueFd fd(::open(mnt("many" + std::to_string(i)).c_str(), O_RDONLY | O_CLOEXEC));
      if (fd) {
        EXPECT_EQ(error, 0) << "open " << i << " came through after others had failed";
        open.push_back(std::move(fd));
      } else {
        error = errno;
        EXPECT_EQ(error, EMFILE) << errno_name(error);
      }
    }
    EXPECT_EQ(error, EMFILE) << open.size() << " files are open at a time";
    EXPECT_GT(open.size(), 30u);
    EXPECT_EQ(open_error(mnt("new"), O_RDWR | O_CREAT), EMFILE);
    EXPECT_EQ(open_error(mnt(), O_RDWR | O_TMPFILE), EMFILE);
    EXPECT_EQ(open_error(mnt(), O_RDONLY | O_DIRECTORY), EMFILE);
    // Who is in can stay, and what opens nothing goes on.
    EXPECT_EQ(read_all(open.back().get()), "text");
    EXPECT_EQ(stat_of(mnt("many199")).st_size, 4);
    EXPECT_EQ(::rename(mnt("many199").c_str(), mnt("renamed").c_str()), 0);
    test.say("no more");
    test.await("close");
    open.clear();
    test.say("closed");
    test.await("end");
  });
  ASSERT_TRUE(hoarder.says("no more"));
  EXPECT_TRUE(log().wait_for({.event = "error"}));
  EXPECT_EQ(log().count({.event = "error"}), 1u) << log().text();
  EXPECT_FALSE(exists(source("new")));
  EXPECT_TRUE(waiter.is_waiting());
  foreign.release();
  ASSERT_TRUE(waiter.opens());
  EXPECT_EQ(source_lock(source("f")), LockSeen::kExclusive);
  EXPECT_TRUE(waiter.write("CONTENTS"));
  waiter.close();
  hoarder.say("close");
  ASSERT_TRUE(hoarder.says("closed"));
  for (int i = 0; i < 199; ++i) EXPECT_TRUE(becomes_free(source("many" + std::to_string(i))));
  EXPECT_TRUE(in_child([&] {
    for (int i = 0; i < 199; ++i) EXPECT_EQ(read_file(mnt("many" + std::to_string(i))), "text");
    EXPECT_EQ(open_error(mnt("new"), O_RDWR | O_CREAT), 0);
  }));
  EXPECT_EQ(log().count({.event = "error"}), 1u) << log().text();
  hoarder.say("end");
}

// Once open, a file can be read to its end, whatever happens to its name.
TEST_P(ErrorTest, ReadGoesOnThoughTheFileIsGone) {
  const std::string bytes(3 << 20, 'x');
  write_file(source("f"), bytes);
  mount();
  Child reader([&](Peer& test) {
    const UniqueFd fd = open_file(mnt("f"), O_RDONLY);
    std::string block(4096, '\0');
    ASSERT_EQ(::read(fd.get(), block.data(), block.size()), 4096);
    test.say("reading");
    test.await("go on");
    EXPECT_TRUE(read_all(fd.get()) == bytes);
  });
  ASSERT_TRUE(reader.says("reading"));
  ASSERT_EQ(::unlink(source("f").c_str()), 0);
  reader.say("go on");
  EXPECT_TRUE(reader.ends_well());
}

// No space: the write fails as it would on the source, and the file stays usable.
TEST_P(ErrorTest, FullFileSystemFailsTheWriteAndNothingElse) {
  ASSERT_EQ(::mount("tmpfs", source().c_str(), "tmpfs", 0, "size=1m"), 0);
  write_file(source("f"), "contents");
  mount();
  EXPECT_TRUE(in_child([&] {
    const UniqueFd fd = open_file(mnt("f"), O_RDWR);
    const std::string block(256 * 1024, 'x');
    ssize_t size = 0;
    for (int i = 0; i < 8 && size >= 0; ++i) size = ::write(fd.get(), block.data(), block.size());
    EXPECT_EQ(size, -1);
    EXPECT_EQ(errno, ENOSPC);
    EXPECT_EQ(::ftruncate(fd.get(), 5), 0);
    EXPECT_EQ(::pwrite(fd.get(), "small", 5, 0), 5);
    EXPECT_EQ(read_all(fd.get()), "small");
  }));
  EXPECT_EQ(read_file(source("f")), "small");
}

TEST_P(ErrorTest, CreationThatFailsLeavesNothing) {
  make_dir(source("d"));
  ASSERT_EQ(run_program({"chattr", "+i", source("d")}).exit_code, 0);
  mount();
  mirror().expect_error("source/d");
  EXPECT_TRUE(in_child([&] {
    EXPECT_EQ(open_error(source("d/new"), O_WRONLY | O_CREAT), EPERM);
    EXPECT_EQ(open_error(mnt("d/new"), O_WRONLY | O_CREAT), EPERM);
    EXPECT_EQ(::mkdir(mnt("d/new").c_str(), 0755), -1);
    EXPECT_EQ(errno, EPERM);
  }));
  EXPECT_EQ(run_program({"chattr", "-i", source("d")}).exit_code, 0);
  EXPECT_TRUE(list_dir(source("d")).empty());
}

}  // namespace
}  // namespace flockfs::test
