// A source, or a place for the log, without room: what is refused is refused as the source does it, nothing half done
// is left, and all else goes on. (write(2): error_test.cc.)

#include <fcntl.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <fstream>
#include <functional>
#include <sstream>
#include <string>

#include "harness/mirror_test.h"
#include "harness/program.h"

namespace flockfs::test {
namespace {

// Locks of whatever file that this process holds or waits for.
int locks_of(pid_t pid) {
  int count = 0;
  std::ifstream file("/proc/locks");
  for (std::string line; std::getline(file, line);) {
    std::istringstream words(line);
    for (std::string word; words >> word;) count += word == std::to_string(pid) ? 1 : 0;
  }
  return count;
}

int mount_small_tmpfs(const std::string& path, const std::string& options) {
  return ::mount("tmpfs", path.c_str(), "tmpfs", 0, ("mode=0755," + options).c_str()) == 0 ? 0 : errno;
}

// Makes files until the file system has no inode left; how many it took.
int use_up_inodes(const std::string& dir) {
  int count = 0;
  while (open_error(dir + "/inode" + std::to_string(count), O_WRONLY | O_CREAT | O_EXCL) == 0) ++count;
  EXPECT_EQ(errno, ENOSPC);
  return count;
}

// Writes until the file system has no block left.
void use_up_blocks(const std::string& path) {
  const UniqueFd fd = open_file(path, O_WRONLY | O_CREAT | O_APPEND);
  for (std::string block(65536, 'x'); !block.empty();) {
    const ssize_t size = ::write(fd.get(), block.data(), block.size());
    if (size < 0) {
      EXPECT_EQ(errno, ENOSPC);
      block.resize(block.size() / 2);
    }
  }
}

class FullSourceTest : public PassthroughTest {
 protected:
  void expect_no_lock_held() {
    EXPECT_TRUE(eventually([&] { return locks_of(mirror().daemon()) == 0; })) << locks_of(mirror().daemon());
  }
};
INSTANTIATE_TEST_SUITE_P(Mount, FullSourceTest, BothPassthroughs(), passthrough_name);

TEST_P(FullSourceTest, CreationWithoutAnInodeLeavesNoNameAndNoLock) {
  ASSERT_EQ(mount_small_tmpfs(source(), "nr_inodes=50"), 0);
  write_file(source("f"), "contents");
  mount();
  EXPECT_TRUE(in_child([&] { EXPECT_EQ(read_file(mnt("f")), "contents"); }));
  const int descriptors = mirror().descriptors();
  const int last = use_up_inodes(source()) - 1;
  const auto names = list_dir(source());
  EXPECT_TRUE(in_child([&] {
    for (const int flags : {O_RDWR | O_CREAT, O_WRONLY | O_CREAT | O_EXCL, O_RDONLY | O_CREAT | O_TRUNC}) {
      EXPECT_EQ(open_error(mnt("new"), flags), ENOSPC);
    }
    EXPECT_EQ(open_error(mnt(), O_RDWR | O_TMPFILE), ENOSPC);
    EXPECT_EQ(::mkdir(mnt("new").c_str(), 0755) == 0 ? 0 : errno, ENOSPC);
    EXPECT_EQ(::mknod(mnt("new").c_str(), S_IFREG | 0644, 0) == 0 ? 0 : errno, ENOSPC);
    EXPECT_EQ(::symlink("f", mnt("new").c_str()) == 0 ? 0 : errno, ENOSPC);
    EXPECT_FALSE(exists(mnt("new")));
    EXPECT_EQ(read_file(mnt("f")), "contents");
  }));
  EXPECT_EQ(list_dir(source()), names);
  expect_no_lock_held();
  EXPECT_TRUE(eventually([&] { return mirror().descriptors() <= descriptors; })) << mirror().descriptors();
  // The last inode of all is enough for a file, as it is on the source.
  ASSERT_EQ(::unlink(source("inode" + std::to_string(last)).c_str()), 0);
  EXPECT_TRUE(in_child([&] { EXPECT_EQ(open_error(mnt("new"), O_RDWR | O_CREAT), 0); }));
  EXPECT_TRUE(exists(source("new")));
}

// A small ext4 of its own: so many inodes and a few hundred KiB.
class FullExt4Test : public FullSourceTest {
 protected:
  void SetUp() override {
    if (find_program("mkfs.ext4").empty()) GTEST_SKIP() << "no mkfs.ext4 here";
    const std::string image = tree() / "image";
    const auto made = run_program({"mkfs.ext4", "-q", "-m", "0", "-O", "^has_journal", "-N", "32", image, "1M"});
    ASSERT_EQ(made.exit_code, 0) << made;
    const auto mounted = run_program({"mount", "-o", "loop", image, source()});
    if (mounted.exit_code != 0) GTEST_SKIP() << "no loop device here: " << mounted;
    make_dir(source("d"));
    write_file(source("sparse"), "");
    ASSERT_EQ(::truncate(source("sparse").c_str(), 1 << 20), 0);
  }

  // The call gets 0 or an errno on the source, undoes what it did, and gets the same on the mirror.
  void expect_the_same(const char* what, const std::function<int(const std::string& dir)>& call, int wanted) {
    SCOPED_TRACE(what);
    const auto before = list_dir(source("d"));
    EXPECT_TRUE(in_child([&] { EXPECT_EQ(errno_name(call(source("d"))), errno_name(wanted)) << "on the source"; }));
    EXPECT_TRUE(in_child([&] { EXPECT_EQ(errno_name(call(mnt("d"))), errno_name(wanted)) << "on the mirror"; }));
    EXPECT_EQ(list_dir(source("d")), before);
    expect_no_lock_held();
  }
};
INSTANTIATE_TEST_SUITE_P(Mount, FullExt4Test, BothPassthroughs(), passthrough_name);

int create(const std::string& dir) {
  const int error = open_error(dir + "/new", O_RDWR | O_CREAT);
  ::unlink((dir + "/new").c_str());
  return error;
}

std::string long_name(int number) { return std::string(240, 'n') + std::to_string(number); }

int create_by_long_name(const std::string& dir) {
  const std::string path = dir + "/" + long_name(99999);
  const int error = open_error(path, O_RDWR | O_CREAT);
  ::unlink(path.c_str());
  return error;
}

int create_unnamed(const std::string& dir) { return open_error(dir, O_RDWR | O_TMPFILE); }

int make_folder(const std::string& dir) {
  const int error = ::mkdir((dir + "/new").c_str(), 0755) == 0 ? 0 : errno;
  ::rmdir((dir + "/new").c_str());
  return error;
}

int write_new(const std::string& dir) {
  const UniqueFd fd = open_file(dir + "/new", O_RDWR | O_CREAT);
  ::unlink((dir + "/new").c_str());
  const std::string block(4096, 'x');
  return ::write(fd.get(), block.data(), block.size()) < 0 ? errno : 0;
}

TEST_P(FullExt4Test, WithoutInodesCreatingFailsAsOnTheSource) {
  mount();
  expect_the_same("O_CREAT, with room", create, 0);
  (void)use_up_inodes(source());
  expect_the_same("O_CREAT", create, ENOSPC);
  expect_the_same("O_TMPFILE", create_unnamed, ENOSPC);
  expect_the_same("mkdir", make_folder, ENOSPC);
}

TEST_P(FullExt4Test, WithoutBlocksOnlyWhatNeedsThemFails) {
  mount();
  use_up_blocks(source("filler"));
  expect_the_same("O_CREAT", create, 0);
  expect_the_same("O_TMPFILE", create_unnamed, 0);
  expect_the_same("mkdir", make_folder, ENOSPC);
  expect_the_same("write", write_new, ENOSPC);
}

// Stores to a part of the file that has no block yet, and asks for it to be written: 0 or ENOSPC, whether it comes as
// a signal (from ext4 itself) or as an errno (from the kernel's own pages of a mirror without passthrough).
[[noreturn]] void store_to(const std::string& path) {
  ::signal(SIGBUS, [](int) { ::_exit(ENOSPC); });
  const UniqueFd fd(::open(path.c_str(), O_RDWR | O_CLOEXEC));
  void* map = fd ? ::mmap(nullptr, 1 << 20, PROT_READ | PROT_WRITE, MAP_SHARED, fd.get(), 0) : MAP_FAILED;
  if (map == MAP_FAILED) ::_exit(255);
  static_cast<char*>(map)[500'000] = 'x';
  ::_exit(::msync(map, 1 << 20, MS_SYNC) == 0 ? 0 : errno);
}

// There are inodes, so that the file can be made and locked; only its name finds no room.
TEST_P(FullExt4Test, CreationInADirectoryThatCannotGrowLeavesNoLock) {
  mount();
  use_up_blocks(source("filler"));
  int names = 0;
  while (::link(source("sparse").c_str(), source("d/" + long_name(names)).c_str()) == 0) ++names;
  ASSERT_EQ(errno, ENOSPC);
  const int descriptors = mirror().descriptors() + 1;  // and one of the directory wanted last
  expect_the_same("O_CREAT", create_by_long_name, ENOSPC);
  EXPECT_TRUE(eventually([&] { return mirror().descriptors() <= descriptors; })) << mirror().descriptors();
}

TEST_P(FullExt4Test, SharedMappingsStoreFailsAsOnTheSource) {
  mount();
  use_up_blocks(source("filler"));
  for (const std::string& path : {source("sparse"), mnt("sparse")}) {
    SCOPED_TRACE(path);
    Child child([&](Peer&) { store_to(path); });
    const auto status = child.wait();
    ASSERT_TRUE(status);
    EXPECT_EQ(describe_status(*status), "exit " + std::to_string(ENOSPC));
  }
  EXPECT_TRUE(becomes_free(source("sparse")));
  // With room again the mirror stores as ever.
  ASSERT_EQ(::unlink(source("filler").c_str()), 0);
  Child child([&](Peer&) { store_to(mnt("sparse")); });
  EXPECT_TRUE(child.ends_well());
  EXPECT_EQ(read_file(source("sparse"))[500'000], 'x');
}

// The log has no better place to say that it has no room; opens must not suffer from that.
TEST_P(FullSourceTest, FullPlaceOfTheLogHoldsUpNobody) {
  const std::string small = folder("small");
  const std::string log_file = small + "/log";
  ASSERT_EQ(mount_small_tmpfs(small, "size=64k"), 0);
  write_file(source("f"), "contents");
  mount({.options = {"log_file=" + log_file}});
  ASSERT_TRUE(eventually([&] { return read_file(log_file).find("event=mounted") != std::string::npos; }));
  use_up_blocks(small + "/filler");
  const auto open_often = [&] {
    EXPECT_TRUE(in_child(
        [&] {
          for (int i = 0; i < 500; ++i) EXPECT_EQ(read_file(mnt("f")), "contents");
          EXPECT_EQ(open_error(mnt("new"), O_RDWR | O_CREAT), 0);
        },
        kPatience * 2));
  };
  open_often();
  ForeignLock foreign(source("f"), LOCK_EX);
  Opener waiter(mnt("f"), O_RDWR);
  EXPECT_TRUE(waiter.child().silent(Millis(200)));
  foreign.release();
  ASSERT_TRUE(waiter.opens());
  EXPECT_EQ(source_lock(source("f")), LockSeen::kExclusive);
  waiter.close();
  EXPECT_TRUE(becomes_free(source("f")));
  EXPECT_LE(stat_of(log_file).st_size, 4096) << "the log did find room";
  // Once there is some, lines are written again.
  ASSERT_EQ(::unlink((small + "/filler").c_str()), 0);
  open_often();
  EXPECT_TRUE(eventually([&] { return stat_of(log_file).st_size > 8192; })) << stat_of(log_file).st_size;
}

}  // namespace
}  // namespace flockfs::test
