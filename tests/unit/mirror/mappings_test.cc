#include "mirror/mappings.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <string>
#include <vector>

#include "mirror/open_file.h"

namespace flockfs {
namespace {

TEST(MapsLineTest, NamesTheFile) {
  EXPECT_EQ(parse_maps_line("7f2c0a400000-7f2c0a422000 r--p 00001000 fe:10 131 /usr/lib/a b"),
            MappedFile(makedev(0xfe, 0x10), 131));
}

TEST(MapsLineTest, AnonymousMemoryIsNoFile) {
  EXPECT_EQ(parse_maps_line("7ffd0000-7ffd1000 rw-p 00000000 00:00 0 [stack]"), MappedFile(0, 0));
}

TEST(MapsLineTest, BrokenLinesAreNoFile) {
  for (const char* line : {"", "x", "1-2 r--p 0", "1-2 r--p 0 zz:1 5 /x", "1-2 r--p 0 fe:1", "1-2 r--p 0 fe:1 "}) {
    EXPECT_EQ(parse_maps_line(line), MappedFile(0, 0)) << line;
  }
}

// A file that is mapped by this process or its children; its own file system stands for the mirror.
class MappingsTest : public testing::Test {
 protected:
  void SetUp() override {
    char name[] = "/var/tmp/flockfs-maps-XXXXXX";
    fd_ = UniqueFd(::mkstemp(name));
    ASSERT_TRUE(fd_);
    ::unlink(name);
    ASSERT_EQ(::ftruncate(fd_.get(), 4096), 0);
    ASSERT_EQ(::fstat(fd_.get(), &st_), 0);
  }

  void* map() { return ::mmap(nullptr, 4096, PROT_READ, MAP_PRIVATE, fd_.get(), 0); }
  bool found(pid_t process, std::int64_t opened_at) {
    Mappings mappings(st_.st_dev);
    const auto mapped = mappings.of(process, opened_at);
    EXPECT_TRUE(mapped.has_value());
    return mapped && mapped->count(st_.st_ino) == 1;
  }

  UniqueFd fd_;
  struct stat st_ {};
};

TEST_F(MappingsTest, ThereAreNoneWithoutMmap) { EXPECT_FALSE(found(::getpid(), boot_time_ns())); }

TEST_F(MappingsTest, AMappingIsFoundUntilMunmap) {
  void* memory = map();
  EXPECT_TRUE(found(::getpid(), boot_time_ns()));
  ::munmap(memory, 4096);
  EXPECT_FALSE(found(::getpid(), boot_time_ns()));
}

// A child that keeps a mapping until its end of the pipe is closed.
class MappingChild {
 public:
  explicit MappingChild(int fd) {
    int ready[2];
    int until[2];
    if (::pipe2(ready, O_CLOEXEC) != 0 || ::pipe2(until, O_CLOEXEC) != 0) std::abort();
    pid_ = ::fork();
    if (pid_ == 0) {
      ::close(until[1]);
      ::mmap(nullptr, 4096, PROT_READ, MAP_SHARED, fd, 0);
      if (::write(ready[1], "r", 1) != 1) ::_exit(1);
      char byte = 0;
      (void)!::read(until[0], &byte, 1);
      ::_exit(0);
    }
    ::close(until[0]);
    ::close(ready[1]);
    until_ = UniqueFd(until[1]);
    char byte = 0;
    if (::read(ready[0], &byte, 1) != 1) std::abort();
    ::close(ready[0]);
  }
  ~MappingChild() {
    until_.reset();
    ::waitpid(pid_, nullptr, 0);
  }
  [[nodiscard]] pid_t pid() const { return pid_; }

 private:
  pid_t pid_ = 0;
  UniqueFd until_;
};

TEST_F(MappingsTest, WithoutDescriptorsNothingIsKnown) {
  Mappings mappings(st_.st_dev);
  std::vector<UniqueFd> all;
  rlimit limit{};
  ASSERT_EQ(::getrlimit(RLIMIT_NOFILE, &limit), 0);
  const rlimit low{64, limit.rlim_max};
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &low), 0);
  for (UniqueFd fd(::dup(0)); fd; fd = UniqueFd(::dup(0))) all.push_back(std::move(fd));
  const auto mapped = mappings.of(::getpid(), boot_time_ns());
  all.clear();
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &limit), 0);
  EXPECT_FALSE(mapped.has_value());
}

TEST_F(MappingsTest, AChildsMappingCountsForItsParent) {
  const MappingChild child(fd_.get());
  EXPECT_TRUE(found(::getpid(), boot_time_ns()));
}

TEST_F(MappingsTest, AMappingMadeByAChildSinceTheOpenIsFound) {
  Mappings mappings(st_.st_dev);
  mappings.begin(boot_time_ns());
  const std::int64_t opened_at = boot_time_ns();
  const MappingChild child(fd_.get());
  const auto mapped = mappings.of(::getpid(), opened_at);
  ASSERT_TRUE(mapped.has_value());
  EXPECT_EQ(mapped->count(st_.st_ino), 1U);
}

TEST_F(MappingsTest, AnOrphansMappingIsFoundWhenTheOpenerIsGone) {
  const MappingChild child(fd_.get());
  const pid_t gone = ::fork();
  if (gone == 0) ::_exit(0);
  ::waitpid(gone, nullptr, 0);
  EXPECT_TRUE(found(gone, boot_time_ns()));
}

TEST_F(MappingsTest, AnOpenerThatCannotBeSeenMayBeAnybody) {
  const MappingChild child(fd_.get());
  EXPECT_TRUE(found(0, boot_time_ns()));
}

}  // namespace
}  // namespace flockfs
