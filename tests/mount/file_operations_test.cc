// Issue 2, deliverable 1: every ordinary operation on files, with and without passthrough. What is done on the mirror
// has to be in the source, byte for byte.

#include <fcntl.h>
#include <linux/falloc.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <random>
#include <sstream>
#include <string>

#include "harness/mirror_test.h"
#include "harness/tracer.h"

namespace flockfs::test {
namespace {

std::string random_bytes(std::size_t size) {
  std::mt19937 generator(42);
  std::string bytes(size, '\0');
  for (char& byte : bytes) byte = static_cast<char>(generator());
  return bytes;
}

class FileOperationsTest : public PassthroughTest {};
INSTANTIATE_TEST_SUITE_P(Mount, FileOperationsTest, BothPassthroughs(), passthrough_name);

TEST_P(FileOperationsTest, LargeFileIsWrittenAndReadWhole) {
  const std::string bytes = random_bytes(5 * 1024 * 1024 + 123);
  mount();
  EXPECT_TRUE(in_child([&] {
    write_file(mnt("f"), bytes);
    EXPECT_TRUE(read_file(mnt("f")) == bytes);
  }));
  EXPECT_TRUE(read_file(source("f")) == bytes);
}

TEST_P(FileOperationsTest, ReadsAndWritesAtOffsetsAndInVectors) {
  write_file(source("f"), "0123456789");
  mount();
  EXPECT_TRUE(in_child([&] {
    const UniqueFd fd = open_file(mnt("f"), O_RDWR);
    std::array<char, 4> first{};
    std::array<char, 3> second{};
    EXPECT_EQ(::pread(fd.get(), first.data(), 4, 3), 4);
    EXPECT_EQ(std::string(first.data(), 4), "3456");
    EXPECT_EQ(::pread(fd.get(), first.data(), 4, 8), 2);
    EXPECT_EQ(::pread(fd.get(), first.data(), 4, 100), 0);
    EXPECT_EQ(::pwrite(fd.get(), "AB", 2, 4), 2);
    const std::array<iovec, 2> in{iovec{first.data(), 4}, iovec{second.data(), 3}};
    EXPECT_EQ(::readv(fd.get(), in.data(), 2), 7);
    EXPECT_EQ(std::string(first.data(), 4) + std::string(second.data(), 3), "0123AB6");
    std::string x = "xx";
    std::string y = "yyy";
    const std::array<iovec, 2> out{iovec{x.data(), 2}, iovec{y.data(), 3}};
    EXPECT_EQ(::writev(fd.get(), out.data(), 2), 5);
  }));
  EXPECT_EQ(read_file(source("f")), "0123AB6xxyyy");
}

TEST_P(FileOperationsTest, AppendingWritersDoNotOverwriteEachOther) {
  write_file(source("f"), "");
  mount();
  EXPECT_TRUE(in_child([&] {
    const UniqueFd fd = open_file(mnt("f"), O_WRONLY | O_APPEND);
    for (int i = 0; i < 10; ++i) {
      EXPECT_EQ(::pwrite(fd.get(), "line\n", 5, 0), 5);  // Linux appends whatever the offset says
      append_file(source("f"), "other\n");
    }
  }));
  EXPECT_EQ(stat_of(source("f")).st_size, 110);
}

TEST_P(FileOperationsTest, SparseFileBeyondFourGigabytes) {
  constexpr off_t kFar = 5LL * 1024 * 1024 * 1024;
  mount();
  EXPECT_TRUE(in_child([&] {
    const UniqueFd fd = open_file(mnt("f"), O_RDWR | O_CREAT);
    EXPECT_EQ(::pwrite(fd.get(), "end", 3, kFar), 3);
    EXPECT_EQ(::lseek(fd.get(), 0, SEEK_END), kFar + 3);
    char byte = 'x';
    EXPECT_EQ(::pread(fd.get(), &byte, 1, kFar / 2), 1);
    EXPECT_EQ(byte, '\0');
  }));
  EXPECT_EQ(stat_of(source("f")).st_size, kFar + 3);
}

TEST_P(FileOperationsTest, HolesAndDataAreFoundAsInTheSource) {
  {
    const UniqueFd fd = open_file(source("f"), O_RDWR | O_CREAT);
    ASSERT_EQ(::pwrite(fd.get(), "data", 4, 1 << 20), 4);
    ASSERT_EQ(::ftruncate(fd.get(), 3 << 20), 0);
  }
  mount();
  EXPECT_TRUE(in_child([&] {
    const UniqueFd fd = open_file(mnt("f"), O_RDONLY);
    const UniqueFd plain = open_file(source("f"), O_RDONLY);
    EXPECT_EQ(::lseek(fd.get(), 0, SEEK_DATA), ::lseek(plain.get(), 0, SEEK_DATA));
    EXPECT_EQ(::lseek(fd.get(), 0, SEEK_DATA), 1 << 20);
    EXPECT_EQ(::lseek(fd.get(), 1 << 20, SEEK_HOLE), ::lseek(plain.get(), 1 << 20, SEEK_HOLE));
    EXPECT_EQ(::lseek(fd.get(), 2 << 20, SEEK_DATA), -1);
    EXPECT_EQ(errno, ENXIO);
    EXPECT_EQ(::lseek(fd.get(), -3, SEEK_END), (3 << 20) - 3);
  }));
}

TEST_P(FileOperationsTest, FallocateReservesPunchesAndZeroes) {
  mount();
  EXPECT_TRUE(in_child([&] {
    const UniqueFd fd = open_file(mnt("f"), O_RDWR | O_CREAT);
    EXPECT_EQ(::fallocate(fd.get(), 0, 0, 16384), 0);
    EXPECT_EQ(stat_of(mnt("f")).st_size, 16384);
    EXPECT_EQ(::fallocate(fd.get(), FALLOC_FL_KEEP_SIZE, 0, 1 << 20), 0);
    EXPECT_EQ(stat_of(mnt("f")).st_size, 16384);
    EXPECT_GE(stat_of(source("f")).st_blocks, (1 << 20) / 512);
    EXPECT_EQ(::pwrite(fd.get(), std::string(16384, 'x').data(), 16384, 0), 16384);
    EXPECT_EQ(::fallocate(fd.get(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 4096, 4096), 0);
    EXPECT_EQ(::fallocate(fd.get(), FALLOC_FL_ZERO_RANGE, 12288, 8192), 0);
    EXPECT_EQ(stat_of(mnt("f")).st_size, 20480);
    // FUSE has no request for these: the kernel refuses them by itself.
    EXPECT_EQ(::fallocate(fd.get(), FALLOC_FL_COLLAPSE_RANGE, 0, 4096), -1);
    EXPECT_EQ(errno, EOPNOTSUPP);
  }));
  const std::string expected = std::string(4096, 'x') + std::string(4096, '\0') + std::string(4096, 'x');
  EXPECT_TRUE(read_file(source("f")) == expected + std::string(8192, '\0'));
}

TEST_P(FileOperationsTest, CopyFileRangeCopies) {
  const std::string bytes = random_bytes(300000);
  write_file(source("from"), bytes);
  mount();
  EXPECT_TRUE(in_child([&] {
    const UniqueFd from = open_file(mnt("from"), O_RDONLY);
    const UniqueFd to = open_file(mnt("to"), O_RDWR | O_CREAT);
    loff_t in = 100;
    loff_t out = 50;
    std::size_t left = 200000;
    while (left > 0) {
      const ssize_t size = ::copy_file_range(from.get(), &in, to.get(), &out, left, 0);
      ASSERT_GT(size, 0) << errno_name(errno);
      left -= static_cast<std::size_t>(size);
    }
    EXPECT_EQ(out, 200050);
    struct stat status {};
    EXPECT_EQ(::fstat(to.get(), &status), 0);
    EXPECT_EQ(status.st_size, 200050);
  }));
  EXPECT_TRUE(read_file(source("to")) == std::string(50, '\0') + bytes.substr(100, 200000));
}

TEST_P(FileOperationsTest, SendfileAndSpliceReadTheFile) {
  const std::string bytes = random_bytes(50000);
  write_file(source("f"), bytes);
  const std::string copy = tree() / "copy";
  mount();
  EXPECT_TRUE(in_child([&] {
    const UniqueFd from = open_file(mnt("f"), O_RDONLY);
    const UniqueFd to = open_file(copy, O_WRONLY | O_CREAT);
    EXPECT_EQ(::sendfile(to.get(), from.get(), nullptr, 25000), 25000);
    std::array<int, 2> pipe{};
    ASSERT_EQ(::pipe2(pipe.data(), O_CLOEXEC), 0);
    for (ssize_t size = 0; (size = ::splice(from.get(), nullptr, pipe[1], nullptr, 16384, 0)) > 0;) {
      EXPECT_EQ(::splice(pipe[0], nullptr, to.get(), nullptr, static_cast<std::size_t>(size), 0), size);
    }
  }));
  EXPECT_TRUE(read_file(copy) == bytes);
}

TEST_P(FileOperationsTest, SpliceWritesTheFile) {
  mount();
  EXPECT_TRUE(in_child([&] {
    const UniqueFd to = open_file(mnt("f"), O_WRONLY | O_CREAT);
    std::array<int, 2> pipe{};
    ASSERT_EQ(::pipe2(pipe.data(), O_CLOEXEC), 0);
    ASSERT_EQ(::write(pipe[1], "through a pipe", 14), 14);
    EXPECT_EQ(::splice(pipe[0], nullptr, to.get(), nullptr, 14, 0), 14);
  }));
  EXPECT_EQ(read_file(source("f")), "through a pipe");
}

TEST_P(FileOperationsTest, SharedMappingWritesTheFile) {
  write_file(source("f"), std::string(10000, 'a'));
  mount();
  EXPECT_TRUE(in_child([&] {
    const UniqueFd fd = open_file(mnt("f"), O_RDWR);
    char* map = static_cast<char*>(::mmap(nullptr, 10000, PROT_READ | PROT_WRITE, MAP_SHARED, fd.get(), 0));
    ASSERT_NE(map, MAP_FAILED);
    map[9999] = 'z';
    EXPECT_EQ(::msync(map, 10000, MS_SYNC), 0);
    EXPECT_EQ(read_file(source("f")).back(), 'z');
    EXPECT_EQ(::pwrite(fd.get(), "b", 1, 0), 1);
    EXPECT_EQ(map[0], 'b');
    ::munmap(map, 10000);
  }));
  EXPECT_EQ(read_file(source("f")).front(), 'b');
}

TEST_P(FileOperationsTest, SyncCallsSucceed) {
  mount();
  EXPECT_TRUE(in_child([&] {
    const UniqueFd fd = open_file(mnt("f"), O_RDWR | O_CREAT);
    EXPECT_EQ(::write(fd.get(), "x", 1), 1);
    EXPECT_EQ(::fsync(fd.get()), 0);
    EXPECT_EQ(::fdatasync(fd.get()), 0);
    EXPECT_EQ(::syncfs(fd.get()), 0);
    EXPECT_EQ(::posix_fadvise(fd.get(), 0, 0, POSIX_FADV_DONTNEED), 0);
    const UniqueFd dir = open_file(mnt(), O_RDONLY | O_DIRECTORY);
    EXPECT_EQ(::fsync(dir.get()), 0);
  }));
}

// A write is as synchronous as its client asked, by the open or by the call.
TEST_P(FileOperationsTest, WritesAreAsSynchronousAsAsked) {
  if (GetParam() == Passthrough::kAuto) GTEST_SKIP() << "the kernel writes";
  write_file(source("f"), "");
  mount({.program = {.environment = {kTraceable}}});
  struct Way {
    int open_flags;
    int write_flags;
    const char* asked;  // of the source, as strace says it
  };
  constexpr std::array<Way, 5> kWays{{{0, 0, "0"},
                                      {O_DSYNC, 0, "RWF_DSYNC"},
                                      {O_SYNC, 0, "RWF_DSYNC|RWF_SYNC"},
                                      {0, RWF_DSYNC, "RWF_DSYNC"},
                                      {0, RWF_SYNC, "RWF_DSYNC|RWF_SYNC"}}};
  Tracer strace(mirror().daemon(), {"-e", "trace=pwritev2"}, tree() / "calls");
  EXPECT_TRUE(in_child([&] {
    for (std::size_t i = 0; i < kWays.size(); ++i) {
      const UniqueFd fd = open_file(mnt("f"), O_WRONLY | kWays[i].open_flags);
      const iovec part{const_cast<char*>("x"), 1};
      EXPECT_EQ(::pwritev2(fd.get(), &part, 1, static_cast<off_t>(i), kWays[i].write_flags), 1);
    }
  }));
  std::istringstream calls(strace.stop());
  std::size_t i = 0;
  for (std::string line; std::getline(calls, line);) {
    const std::size_t end = line.find(") = 1");
    if (end == std::string::npos || i == kWays.size()) continue;
    const std::size_t flags = line.rfind(", ", end) + 2;
    EXPECT_EQ(line.substr(flags, end - flags), kWays[i++].asked) << line;
  }
  EXPECT_EQ(i, kWays.size());
}

TEST_P(FileOperationsTest, DirectReadsAndWrites) {
  write_file(source("f"), std::string(8192, 'a'));
  mount();
  EXPECT_TRUE(in_child([&] {
    const UniqueFd fd = open_file(mnt("f"), O_RDWR | O_DIRECT);
    const std::unique_ptr<void, void (*)(void*)> buffer(std::aligned_alloc(4096, 4096), std::free);
    EXPECT_EQ(::pread(fd.get(), buffer.get(), 4096, 4096), 4096);
    std::memset(buffer.get(), 'b', 4096);
    EXPECT_EQ(::pwrite(fd.get(), buffer.get(), 4096, 0), 4096);
  }));
  EXPECT_TRUE(read_file(source("f")) == std::string(4096, 'b') + std::string(4096, 'a'));
}

TEST_P(FileOperationsTest, AttributesAreSetAndShown) {
  write_file(source("f"), "x");
  mount();
  EXPECT_TRUE(in_child([&] {
    const UniqueFd fd = open_file(mnt("f"), O_RDWR);
    const std::array<timespec, 2> times{timespec{1000000000, 123456789}, timespec{1100000000, 987654321}};
    EXPECT_EQ(::futimens(fd.get(), times.data()), 0);
    EXPECT_EQ(::fchmod(fd.get(), 0640), 0);
    EXPECT_EQ(::fchown(fd.get(), 11, 22), 0);
    EXPECT_EQ(::ftruncate(fd.get(), 1000), 0);
    const std::array<timespec, 2> omit{timespec{0, UTIME_OMIT}, timespec{1200000000, 5}};
    EXPECT_EQ(::utimensat(AT_FDCWD, mnt("f").c_str(), omit.data(), 0), 0);
  }));
  for (const std::string& path : {source("f"), mnt("f")}) {
    EXPECT_TRUE(in_child([&] {
      const struct stat status = stat_of(path);
      EXPECT_EQ(status.st_mode, S_IFREG | 0640u);
      EXPECT_EQ(status.st_uid, 11u);
      EXPECT_EQ(status.st_gid, 22u);
      EXPECT_EQ(status.st_size, 1000);
      EXPECT_EQ(status.st_atim.tv_sec, 1000000000);
      EXPECT_EQ(status.st_atim.tv_nsec, 123456789);
      EXPECT_EQ(status.st_mtim.tv_sec, 1200000000);
      EXPECT_EQ(status.st_mtim.tv_nsec, 5);
    })) << path;
  }
}

TEST_P(FileOperationsTest, TimeNowIsNow) {
  write_file(source("f"), "x");
  mount();
  const time_t before = ::time(nullptr);
  EXPECT_TRUE(in_child([&] {
    const std::array<timespec, 2> old{timespec{1000, 0}, timespec{1000, 0}};
    EXPECT_EQ(::utimensat(AT_FDCWD, mnt("f").c_str(), old.data(), 0), 0);
    EXPECT_EQ(::utimensat(AT_FDCWD, mnt("f").c_str(), nullptr, 0), 0);
  }));
  EXPECT_GE(stat_of(source("f")).st_mtim.tv_sec, before);
}

TEST_P(FileOperationsTest, WritingMovesTheTimesAsTheSourceShowsThem) {
  write_file(source("f"), "x");
  mount();
  EXPECT_TRUE(in_child([&] {
    const UniqueFd fd = open_file(mnt("f"), O_RDWR);
    const std::array<timespec, 2> old{timespec{1000, 0}, timespec{1000, 0}};
    EXPECT_EQ(::futimens(fd.get(), old.data()), 0);
    EXPECT_EQ(::write(fd.get(), "y", 1), 1);
    struct stat status {};
    EXPECT_EQ(::fstat(fd.get(), &status), 0);
    EXPECT_GT(status.st_mtim.tv_sec, 1000);
    EXPECT_EQ(status.st_mtim.tv_nsec, stat_of(source("f")).st_mtim.tv_nsec);
  }));
}

TEST_P(FileOperationsTest, UnlinkedFileStaysUsableWhileOpen) {
  write_file(source("f"), "contents");
  mount();
  EXPECT_TRUE(in_child([&] {
    const UniqueFd fd = open_file(mnt("f"), O_RDWR);
    EXPECT_EQ(::unlink(mnt("f").c_str()), 0);
    EXPECT_FALSE(exists(mnt("f")));
    EXPECT_EQ(::pwrite(fd.get(), "CONT", 4, 0), 4);
    EXPECT_EQ(read_all(fd.get()), "CONTents");
    EXPECT_EQ(::ftruncate(fd.get(), 4), 0);
    EXPECT_EQ(::fchmod(fd.get(), 0600), 0);
    struct stat status {};
    EXPECT_EQ(::fstat(fd.get(), &status), 0);
    EXPECT_EQ(status.st_size, 4);
    EXPECT_EQ(status.st_nlink, 0u);
    write_file(mnt("f"), "a new one");
    EXPECT_EQ(read_all(fd.get()), "CONT");
  }));
  EXPECT_EQ(read_file(source("f")), "a new one");
}

// Leaves no hidden name behind, either (.fuse_hidden of libfuse's high-level interface).
TEST_P(FileOperationsTest, FileRemovedAndReplacedWhileOpenLeavesNothingInTheSource) {
  write_file(source("f"), "old");
  write_file(source("g"), "new");
  mount();
  EXPECT_TRUE(in_child([&] {
    const UniqueFd fd = open_file(mnt("f"), O_RDONLY);
    EXPECT_EQ(::rename(mnt("g").c_str(), mnt("f").c_str()), 0);
    EXPECT_EQ(read_all(fd.get()), "old");
    EXPECT_EQ(read_file(mnt("f")), "new");
    EXPECT_EQ(list_dir(source()), std::vector<std::string>{"f"});
  }));
}

TEST_P(FileOperationsTest, AccessModeOfTheOpenIsKept) {
  write_file(source("f"), "x");
  mount();
  EXPECT_TRUE(in_child([&] {
    char byte = 0;
    const UniqueFd reader = open_file(mnt("f"), O_RDONLY);
    EXPECT_EQ(::write(reader.get(), "y", 1), -1);
    EXPECT_EQ(errno, EBADF);
    EXPECT_EQ(::read(reader.get(), &byte, 1), 1);
  }));
  EXPECT_TRUE(in_child([&] {
    char byte = 0;
    const UniqueFd writer = open_file(mnt("f"), O_WRONLY);
    EXPECT_EQ(::read(writer.get(), &byte, 1), -1);
    EXPECT_EQ(errno, EBADF);
    EXPECT_EQ(::write(writer.get(), "z", 1), 1);
  }));
  EXPECT_EQ(read_file(source("f")), "z");
}

}  // namespace
}  // namespace flockfs::test
