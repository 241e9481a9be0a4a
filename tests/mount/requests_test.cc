// What a locked open costs: the requests that the kernel sends for each file, by kind, and the daemon's system calls.
// Counted, not timed.

#include <fcntl.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <chrono>
#include <map>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "harness/mirror_test.h"
#include "harness/program.h"
#include "harness/tracer.h"

namespace flockfs::test {
namespace {

using namespace std::chrono_literals;

constexpr int kDirectories = 4;
constexpr int kFilesEach = 50;
constexpr int kFiles = kDirectories * kFilesEach;

class RequestsTest : public PassthroughTest {
 protected:
  void SetUp() override {
    for (int directory = 0; directory < kDirectories; ++directory) {
      const std::string path = source("d" + std::to_string(directory));
      ASSERT_EQ(::mkdir(path.c_str(), 0755), 0);
      for (int file = 0; file < kFilesEach; ++file) write_file(path + "/f" + std::to_string(file), "0123456789");
    }
  }

  // Requests of a mirror with these options while `work` ran in a child.
  template <typename Work>
  LogEntry requests_of(std::vector<std::string> options, Work work) {
    mount({.options = std::move(options)});
    EXPECT_TRUE(in_child(work));
    return unmount_and_count();
  }

  void archive() const {
    const ProgramResult result = run_program({"tar", "-C", mnt(), "-cf", tree().path() + "/archive.tar", "."});
    EXPECT_EQ(result.exit_code, 0) << result;
  }
};
INSTANTIATE_TEST_SUITE_P(Mount, RequestsTest, BothPassthroughs(), passthrough_name);

// With caches that last as long as the archive takes, which 1.3 of the contract makes safe, a file costs its OPEN and
// its RELEASE; without the kernel's passthrough it has to be read as well.
TEST_P(RequestsTest, TarOfAReadOnlyMirrorOpensAndReleases) {
  const LogEntry requests = requests_of({"ro", "attr_timeout=3600", "entry_timeout=3600"}, [&] { archive(); });
  EXPECT_EQ(requests.number("open"), kFiles) << requests.line;
  EXPECT_EQ(requests.number("release"), kFiles) << requests.line;
  EXPECT_EQ(requests.number("flush"), 0) << requests.line;
  EXPECT_EQ(requests.number("read"), GetParam() == Passthrough::kAuto ? 0 : kFiles) << requests.line;
  EXPECT_LE(requests.number("lookup"), kDirectories) << requests.line;
  EXPECT_LE(requests.number("getattr") + requests.number("statx"), kDirectories + 2) << requests.line;
  EXPECT_EQ(requests.number("getxattr") + requests.number("listxattr"), 0) << requests.line;
}

TEST_P(RequestsTest, WithTheDefaultsNoMoreThanOneLookup) {
  const LogEntry requests = requests_of({"ro"}, [&] { archive(); });
  EXPECT_EQ(requests.number("open"), kFiles) << requests.line;
  EXPECT_EQ(requests.number("release"), kFiles) << requests.line;
  EXPECT_LE(requests.number("lookup"), kFiles + kDirectories) << requests.line;
  EXPECT_EQ(requests.number("flush"), 0) << requests.line;
}

// A read moves the access time, as far as the kernel knows, so that the fstat(2) with which tar ends asks again.
TEST_P(RequestsTest, TarOfAWritableMirrorAsksOncePerFileMore) {
  const LogEntry requests = requests_of({"attr_timeout=3600", "entry_timeout=3600"}, [&] { archive(); });
  EXPECT_EQ(requests.number("open"), kFiles) << requests.line;
  EXPECT_LE(requests.number("getattr") + requests.number("statx"), kFiles + kDirectories + 2) << requests.line;
  EXPECT_EQ(requests.number("flush"), 0) << requests.line;
}

// The descriptor of a reader that opens again what it knows.
TEST_P(RequestsTest, OpenReadCloseOfKnownFiles) {
  const LogEntry requests = requests_of({"attr_timeout=3600", "entry_timeout=3600"}, [&] {
    for (int round = 0; round < 10; ++round) {
      for (int file = 0; file < kFilesEach; ++file) {
        EXPECT_EQ(read_file(mnt("d0/f" + std::to_string(file))), "0123456789");
      }
    }
  });
  EXPECT_EQ(requests.number("open"), 10 * kFilesEach) << requests.line;
  EXPECT_EQ(requests.number("release"), 10 * kFilesEach) << requests.line;
  EXPECT_LE(requests.number("lookup"), kFilesEach + 1) << requests.line;
  EXPECT_EQ(requests.number("flush"), 0) << requests.line;
}

// A writer is asked at close(2) for the source's write errors: the one request more.
TEST_P(RequestsTest, WritersFlush) {
  const LogEntry requests = requests_of({"attr_timeout=3600", "entry_timeout=3600"}, [&] {
    for (int file = 0; file < kFilesEach; ++file) {
      const UniqueFd fd(::open(mnt("d0/f" + std::to_string(file)).c_str(), O_WRONLY | O_CLOEXEC));
      EXPECT_EQ(::write(fd.get(), "x", 1), 1);
    }
  });
  EXPECT_EQ(requests.number("open"), kFilesEach) << requests.line;
  EXPECT_EQ(requests.number("release"), kFilesEach) << requests.line;
  EXPECT_EQ(requests.number("flush"), kFilesEach) << requests.line;
  EXPECT_EQ(requests.number("write"), GetParam() == Passthrough::kAuto ? 0 : kFilesEach) << requests.line;
}

// The daemon's system calls by name, as `strace -c -f -U calls,name` counts them.
std::map<std::string, int> calls_of(const std::string& report) {
  std::map<std::string, int> calls;
  std::istringstream lines(report);
  for (std::string line; std::getline(lines, line);) {
    std::istringstream words(line);
    int count = 0;
    if (std::string name; words >> count >> name && name != "total") calls[name] = count;
  }
  return calls;
}

// One reader opens, reads and closes, again and again, in one directory after the other, as several clients would. What
// threads do to one another and to their memory depends on the machine and is not counted (nor is what sanitizers do).
TEST_P(RequestsTest, SystemCallsOfALockedOpen) {
  mount({.options = {"attr_timeout=3600", "entry_timeout=3600", "log_level=warning"},
         .program = {.environment = {kTraceable}}});
  const auto read_all = [&] {
    for (int file = 0; file < kFiles; ++file) {
      const std::string directory = "d" + std::to_string(file % kDirectories);
      EXPECT_EQ(read_file(mnt(directory + "/f" + std::to_string(file / kDirectories))), "0123456789");
    }
  };
  constexpr int kRounds = 2;
  constexpr int kOpens = kRounds * kFiles;
  // Who has ended is looked for in all of /proc, so it lives on.
  Child reader([&](Peer& test) {
    read_all();  // names and attributes are known from now on
    test.say("ready");
    test.await("read");
    for (int round = 0; round < kRounds; ++round) read_all();
    test.say("done");
    test.await("end");
  });
  ASSERT_TRUE(reader.says("ready"));
  Tracer strace(mirror().daemon(), {"-c", "-U", "calls,name"}, tree() / "calls");
  reader.say("read");
  EXPECT_TRUE(reader.says("done"));
  const std::string report = strace.stop();
  reader.say("end");
  EXPECT_TRUE(reader.ends_well());
  std::map<std::string, int> calls = calls_of(report);
  const bool passthrough = GetParam() == Passthrough::kAuto;
  constexpr int kSpare = 12;                                 // a thread looks at the clients now and then
  EXPECT_LE(calls["flock"], 2 * kOpens + kFiles) << report;  // unlocks may come late, those of before too
  EXPECT_LE(calls["ioctl"], (passthrough ? 2 : 0) * kOpens + kSpare) << report;
  EXPECT_LE(calls["writev"] + calls["splice"], (passthrough ? 2 : 3) * kOpens + kSpare) << report;
  EXPECT_LE(calls["newfstatat"] + calls["fstat"] + calls["statx"], kOpens + kSpare) << report;
  EXPECT_LE(calls["tgkill"], kOpens + kSpare) << report;
  EXPECT_LE(calls["open_by_handle_at"], kOpens + kSpare) << report;
  if (!passthrough) {  // with it, another by the name, and what looks into /proc/PID/maps after the closes
    EXPECT_LE(calls["open_by_handle_at"] + calls["openat"], kOpens + kSpare) << report;
  }
  for (const std::string name :
       {"brk", "futex", "madvise", "mmap", "mprotect", "mremap", "munmap", "poll", "sched_yield"}) {
    calls.erase(name);
  }
  if (passthrough) {  // as many as there are processes on the machine that are younger than the open
    for (const std::string name : {"openat", "read", "close"}) calls.erase(name);
  }
  int all = 0;
  for (const auto& [name, count] : calls) all += count;
  EXPECT_LE(all, (passthrough ? 10 : 14) * kOpens) << report;
}

// What is asked of a file that is open needs no other descriptor.
TEST_P(RequestsTest, FilesThatAreOpenAreNotOpenedForTheirAttributes) {
  mount({.options = {"log_level=warning"}, .program = {.environment = {kTraceable}}});
  constexpr int kRounds = 100;
  Child client([&](Peer& test) {
    const UniqueFd fd = open_file(mnt("d0/f0"), O_RDWR);
    test.say("open");
    test.await("go");
    struct statx st {};
    for (int round = 0; round < kRounds; ++round) {
      EXPECT_EQ(::statx(fd.get(), "", AT_EMPTY_PATH | AT_STATX_FORCE_SYNC, STATX_BASIC_STATS, &st), 0);
      EXPECT_EQ(::fgetxattr(fd.get(), "user.none", nullptr, 0), -1);
    }
    test.say("done");
    test.await("end");
  });
  ASSERT_TRUE(client.says("open"));
  Tracer strace(mirror().daemon(), {"-c", "-U", "calls,name"}, tree() / "calls");
  client.say("go");
  EXPECT_TRUE(client.says("done"));
  const std::string report = strace.stop();
  std::map<std::string, int> calls = calls_of(report);
  EXPECT_GE(calls["writev"], 2 * kRounds - 10) << report;  // the last may come when strace has gone
  EXPECT_LE(calls["open_by_handle_at"] + calls["openat"], kRounds / 10) << report;
  client.say("end");
  EXPECT_TRUE(client.ends_well());
}

// Mappings that the kernel does not join.
void map_much(int mappings) {
  const auto page = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
  const std::size_t size = static_cast<std::size_t>(mappings) * page;
  void* map = ::mmap(nullptr, size, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  ASSERT_NE(map, MAP_FAILED);
  for (std::size_t at = 0; at < size; at += 2 * page) {
    ASSERT_EQ(::mprotect(static_cast<char*>(map) + at, page, PROT_NONE), 0);
  }
}

// Where mappings take long to read, closed files are gathered for the longer.
TEST_P(RequestsTest, MappingsThatTakeLongToReadAreReadSeldom) {
  if (GetParam() == Passthrough::kOff) GTEST_SKIP() << "RELEASE waits for the mappings";
  mount({.program = {.environment = {kTraceable}}});
  constexpr int kMappings = 3000;
  constexpr auto kLongestGather = 5ms;  // mirror/release_desk.cc
  Child reader([&](Peer& test) {
    map_much(kMappings);
    test.say("ready");
    test.await("read");
    for (int file = 0; file < 5 * kFiles; ++file) {
      EXPECT_EQ(open_error(mnt("d0/f" + std::to_string(file % kFilesEach)), O_RDONLY), 0);
    }
    test.say("done");
    test.await("end");
  });
  ASSERT_TRUE(reader.says("ready"));
  Tracer strace(mirror().daemon(), {"-e", "trace=openat"}, tree() / "calls");
  const auto start = std::chrono::steady_clock::now();
  reader.say("read");
  EXPECT_TRUE(reader.says("done"));
  const std::string report = strace.stop();
  const auto time = std::chrono::steady_clock::now() - start;
  const std::string maps = "/proc/" + std::to_string(reader.pid()) + "/maps";
  int readings = 0;
  for (std::size_t at = report.find(maps); at != std::string::npos; at = report.find(maps, at + 1)) ++readings;
  EXPECT_GT(readings, 0) << report;
  EXPECT_LE(readings, time / kLongestGather + 2) << report;
  reader.say("end");
  EXPECT_TRUE(reader.ends_well());
}

// How often the daemon's threads looked for a request that had not come yet.
class SpinTest : public MirrorTest {
 protected:
  void start() {
    write_file(source("f"), "");
    mount({.program = {.environment = {kTraceable}}});
  }
  // While a client sends so many requests, one after the other, with a pause after each.
  int looks(int requests, std::chrono::milliseconds pause) {
    Tracer strace(mirror().daemon(), {"-c", "-U", "calls,name"}, tree() / "calls");
    EXPECT_TRUE(in_child([&] {
      struct statx st {};
      for (int request = 0; request < requests; ++request) {
        EXPECT_EQ(::statx(AT_FDCWD, mnt("f").c_str(), AT_STATX_FORCE_SYNC, STATX_SIZE, &st), 0);
        std::this_thread::sleep_for(pause);
      }
    }));
    return calls_of(strace.stop())["sched_yield"];
  }
  static void use_processors(const cpu_set_t& processors) {
    ASSERT_EQ(::sched_setaffinity(0, sizeof processors, &processors), 0);
  }
};

TEST_F(SpinTest, NoneWhenRequestsAreFarBetween) {
  start();
  EXPECT_EQ(looks(100, 2ms), 0);
}

TEST_F(SpinTest, SomeWhenTheyKeepComing) {
  cpu_set_t processors;
  ASSERT_EQ(::sched_getaffinity(0, sizeof processors, &processors), 0);
  if (CPU_COUNT(&processors) == 1) GTEST_SKIP() << "one processor";
  start();
  // As long as the machine is busy, a daemon that is traced may be too slow for them to come soon.
  EXPECT_TRUE(eventually([&] { return looks(2000, 0ms) > 0; }));
}

TEST_F(SpinTest, NoneOnOneProcessor) {
  cpu_set_t processors;
  ASSERT_EQ(::sched_getaffinity(0, sizeof processors, &processors), 0);
  int first = 0;
  while (!CPU_ISSET(first, &processors)) ++first;
  CPU_ZERO(&processors);
  CPU_SET(first, &processors);
  use_processors(processors);
  start();
  EXPECT_EQ(looks(2000, 0ms), 0);
}

}  // namespace
}  // namespace flockfs::test
