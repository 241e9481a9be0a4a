// Issue 2, "Rights through passthrough", DESIGN 4.6: what is written through the mirror has the effects on set-id bits
// and capabilities that the same write to the source would have; and none of that costs a GETXATTR for each write.

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <sstream>
#include <string>
#include <vector>

#include "harness/mirror_test.h"
#include "harness/program.h"
#include "harness/tracer.h"
#include "harness/users.h"

namespace flockfs::test {
namespace {

class RightsTest : public PassthroughTest {
 protected:
  void make_set_id_file(const std::string& name, mode_t mode = 06777) {
    write_file(source(name), "contents");
    ASSERT_EQ(::chmod(source(name).c_str(), mode), 0);
  }
  [[nodiscard]] mode_t mode_on_source(const std::string& name) const { return stat_of(source(name)).st_mode & 07777; }
  void expect_mode_on_both(const std::string& name, mode_t mode) {
    EXPECT_EQ(mode_on_source(name), mode) << std::oct << mode_on_source(name);
    EXPECT_TRUE(in_child([&] { EXPECT_EQ(stat_of(mnt(name)).st_mode & 07777, mode); }));
  }
};
INSTANTIATE_TEST_SUITE_P(Mount, RightsTest, BothPassthroughs(), passthrough_name);

// All the ways to write to an open file.
struct Writing {
  const char* name;
  std::function<bool(const std::string& path)> write;
};

std::vector<Writing> ways_to_write() {
  const auto opened = [](int flags, auto action) {
    return [=](const std::string& path) { return action(open_file(path, flags).get()); };
  };
  return {
      {"write", opened(O_WRONLY, [](int fd) { return ::write(fd, "x", 1) == 1; })},
      {"rdwr", opened(O_RDWR, [](int fd) { return ::pwrite(fd, "x", 1, 4) == 1; })},
      {"append", opened(O_WRONLY | O_APPEND, [](int fd) { return ::write(fd, "x", 1) == 1; })},
      {"open_trunc", opened(O_WRONLY | O_TRUNC, [](int) { return true; })},
      {"ftruncate", opened(O_WRONLY, [](int fd) { return ::ftruncate(fd, 3) == 0; })},
      {"fallocate", opened(O_WRONLY, [](int fd) { return ::fallocate(fd, 0, 0, 9000) == 0; })},
      {"truncate", [](const std::string& path) { return ::truncate(path.c_str(), 2) == 0; }},
  };
}

TEST_P(RightsTest, WriteByAStrangerDropsTheSetIdBits) {
  for (const Writing& way : ways_to_write()) make_set_id_file(way.name);
  mount();
  for (const Writing& way : ways_to_write()) {
    SCOPED_TRACE(way.name);
    EXPECT_TRUE(in_child([&] {
      become_user();
      EXPECT_EQ(stat_of(mnt(way.name)).st_mode & 07777, 06777u);
      EXPECT_TRUE(way.write(mnt(way.name))) << errno_name(errno);
    }));
    expect_mode_on_both(way.name, 0777);
  }
}

// By a lock of its own it has kept other writers away so far, and the kernel reads the file with the daemon's rights.
TEST_P(RightsTest, WriteByAStrangerWhoReadsTheFileTooDropsTheSetIdBits) {
  for (const Writing& way : ways_to_write()) make_set_id_file(way.name);
  mount();
  for (const Writing& way : ways_to_write()) {
    if (way.name == std::string("truncate")) continue;  // by path it may be EAGAIN while somebody has the file
    SCOPED_TRACE(way.name);
    EXPECT_TRUE(in_child([&] {
      become_user();
      const UniqueFd reader = open_file(mnt(way.name), O_RDONLY);
      EXPECT_EQ(read_file(mnt(way.name)), "contents");
      EXPECT_TRUE(way.write(mnt(way.name))) << errno_name(errno);
    }));
    expect_mode_on_both(way.name, 0777);
  }
}

TEST_P(RightsTest, WhoReadsAndWritesByDescriptorsOfItsOwnSeesOneFile) {
  write_file(source("f"), "contents");
  mount();
  EXPECT_TRUE(in_child([&] {
    const std::string path = mnt("f");
    const UniqueFd reader = open_file(path, O_RDONLY);
    char* const seen = static_cast<char*>(::mmap(nullptr, 4096, PROT_READ, MAP_SHARED, reader.get(), 0));
    const UniqueFd writer = open_file(path, O_RDWR);
    char* const written =
        static_cast<char*>(::mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, writer.get(), 0));
    ASSERT_TRUE(seen != MAP_FAILED && written != MAP_FAILED);
    const auto expect_everywhere = [&](const std::string& expected) {
      EXPECT_EQ(read_file(source("f")), expected);
      EXPECT_EQ(read_all(reader.get()), expected);
      EXPECT_EQ(read_all(writer.get()), expected);
      EXPECT_EQ(std::string(seen, expected.size()), expected);
      EXPECT_EQ(stat_of(path).st_size, static_cast<off_t>(expected.size()));
    };
    EXPECT_EQ(::pwrite(writer.get(), "C", 1, 0), 1);
    expect_everywhere("Contents");
    append_file(path, "!");
    expect_everywhere("Contents!");
    written[1] = 'O';
    EXPECT_EQ(::msync(written, 4096, MS_SYNC), 0);
    expect_everywhere("COntents!");
    EXPECT_EQ(::ftruncate(writer.get(), 4), 0);
    expect_everywhere("COnt");
  }));
}

// Had the stranger not executed or read it, but only cached its attributes long ago, it would be the same.
TEST_P(RightsTest, SetIdBitsThatCameLaterAreDroppedToo) {
  write_file(source("f"), "contents");
  ASSERT_EQ(::chmod(source("f").c_str(), 0777), 0);
  mount({.options = {"attr_timeout=3600", "entry_timeout=3600"}});
  EXPECT_TRUE(in_child([&] { EXPECT_EQ(stat_of(mnt("f")).st_mode & 07777, 0777u); }));
  ASSERT_EQ(::chmod(source("f").c_str(), 06777), 0);
  EXPECT_TRUE(in_child([&] {
    become_user();
    append_file(mnt("f"), "x");
  }));
  EXPECT_EQ(mode_on_source("f"), 0777u);
}

// The bits come while the stranger has the file open already.
TEST_P(RightsTest, SetIdBitsThatComeWhileTheFileIsOpenAreDroppedToo) {
  write_file(source("f"), "contents");
  ASSERT_EQ(::chmod(source("f").c_str(), 0777), 0);
  mount();
  Child stranger([&](Peer& test) {
    become_user();
    const UniqueFd fd = open_file(mnt("f"), O_RDWR);
    test.say("open");
    test.await("write");
    EXPECT_EQ(::pwrite(fd.get(), "x", 1, 0), 1);
  });
  ASSERT_TRUE(stranger.says("open"));
  EXPECT_TRUE(in_child([&] { EXPECT_EQ(::chmod(mnt("f").c_str(), 06777), 0); }));
  EXPECT_EQ(mode_on_source("f"), 06777u);
  stranger.say("write");
  EXPECT_TRUE(stranger.ends_well());
  EXPECT_EQ(mode_on_source("f"), 0777u);
}

TEST_P(RightsTest, ReadingKeepsTheSetIdBits) {
  make_set_id_file("f");
  mount();
  EXPECT_TRUE(in_child([&] {
    become_user();
    EXPECT_EQ(read_file(mnt("f")), "contents");
    EXPECT_EQ(open_error(mnt("f"), O_RDWR), 0);
  }));
  expect_mode_on_both("f", 06777);
}

TEST_P(RightsTest, WriteByRootIsAsOnTheSource) {
  make_set_id_file("native");
  make_set_id_file("mirrored");
  mount();
  EXPECT_TRUE(in_child([&] {
    append_file(source("native"), "x");
    append_file(mnt("mirrored"), "x");
  }));
  expect_mode_on_both("mirrored", mode_on_source("native"));
}

// Root's open descriptor in a stranger's hands: the kernel goes by who writes.
TEST_P(RightsTest, WriteByAStrangerThroughAnInheritedDescriptorDropsTheBits) {
  make_set_id_file("f");
  mount();
  EXPECT_TRUE(in_child([&] {
    const UniqueFd fd = open_file(mnt("f"), O_RDWR);
    become_user();
    EXPECT_EQ(::write(fd.get(), "x", 1), 1);
  }));
  expect_mode_on_both("f", 0777);
}

TEST_P(RightsTest, ChangeOfOwnerDropsTheSetIdBits) {
  make_set_id_file("f");
  ASSERT_EQ(::chown(source("f").c_str(), kStranger, kStrangerGroup), 0);
  ASSERT_EQ(::chmod(source("f").c_str(), 06777), 0);
  mount();
  EXPECT_TRUE(in_child([&] {
    become_user(kStranger, kStrangerGroup, {kTeam});
    EXPECT_EQ(::chown(mnt("f").c_str(), static_cast<uid_t>(-1), kTeam), 0);
  }));
  expect_mode_on_both("f", 0777);
}

TEST_P(RightsTest, WriteDropsFileCapabilities) {
  const std::string capability = net_raw_capability();
  for (const std::string name : {"by_stranger", "by_root", "read"}) {
    write_file(source(name), "contents");
    ASSERT_EQ(::chmod(source(name).c_str(), 0777), 0);
    ASSERT_EQ(::setxattr(source(name).c_str(), "security.capability", capability.data(), capability.size(), 0), 0)
        << errno_name(errno);
  }
  mount();
  EXPECT_TRUE(in_child([&] {
    append_file(mnt("by_root"), "x");
    EXPECT_EQ(read_file(mnt("read")), "contents");
    become_user();
    append_file(mnt("by_stranger"), "x");
  }));
  EXPECT_EQ(::getxattr(source("by_stranger").c_str(), "security.capability", nullptr, 0), -1);
  EXPECT_EQ(::getxattr(source("by_root").c_str(), "security.capability", nullptr, 0), -1);
  EXPECT_GT(::getxattr(source("read").c_str(), "security.capability", nullptr, 0), 0);
}

// A set-id program on the mirror changes nobody's identity: FUSE mounts are nosuid unless asked otherwise.
TEST_P(RightsTest, SetIdProgramsDoNotGetTheirOwnersIdentity) {
  write_file(source("id"), read_file(find_program("id")), 0755);
  ASSERT_EQ(::chmod(source("id").c_str(), 04755), 0);
  mount();
  const auto result = run_program({mnt("id"), "-u"}, {.before_exec = [] { become_user(); }});
  EXPECT_EQ(result.out, std::to_string(kStranger) + "\n") << result;
}

TEST_P(RightsTest, ThousandWritesAskForNoAttributeEach) {
  if (find_program("strace").empty()) GTEST_SKIP() << "no strace here";
  write_file(source("f"), "");
  ASSERT_EQ(::chmod(source("f").c_str(), 0666), 0);
  MirrorSetup setup;
  setup.program.environment.emplace_back(kTraceable);
  mount(setup);
  Child writer([&](Peer& test) {
    become_user();
    const UniqueFd fd = open_file(mnt("f"), O_WRONLY);
    test.say("open");
    test.await("write");
    const std::string block(4096, 'x');
    for (int i = 0; i < 1000; ++i) EXPECT_EQ(::write(fd.get(), block.data(), block.size()), 4096);
    test.say("written");
    test.await("end");
  });
  ASSERT_TRUE(writer.says("open"));
  Tracer tracer(mirror().daemon(), {"-e", "trace=getxattr,lgetxattr,fgetxattr,kill"}, tree() / "strace.out");
  writer.say("write");
  EXPECT_TRUE(writer.says("written", kPatience * 4));
  std::istringstream lines(tracer.stop());
  std::size_t calls = 0;
  for (std::string line; std::getline(lines, line);) {
    if (line.find("getxattr") != std::string::npos) ++calls;
  }
  EXPECT_LT(calls, 10u);
  writer.say("end");
  EXPECT_TRUE(writer.ends_well());
  EXPECT_EQ(stat_of(source("f")).st_size, 4096 * 1000);
}

enum class Reads { kNo, kToo };

// How much a stranger can write into a new file before the file system is full; the file is removed again.
off_t room_for_a_stranger(const std::string& path, Reads reads = Reads::kNo) {
  off_t size = -1;
  Child child([&](Peer& test) {
    become_user();
    UniqueFd fd = open_file(path, O_WRONLY | O_CREAT | O_EXCL);
    UniqueFd reader;
    if (reads == Reads::kToo) {
      fd.reset();
      reader = open_file(path, O_RDONLY);
      fd = open_file(path, O_WRONLY);
    }
    const std::string block(16 * 1024, 'x');
    while (::write(fd.get(), block.data(), block.size()) > 0) {
    }
    EXPECT_EQ(errno, ENOSPC);
    test.say(std::to_string(stat_of(path).st_size));
    EXPECT_EQ(::unlink(path.c_str()), 0);
  });
  if (const auto said = child.hear(kPatience * 4)) size = std::stol(*said);
  EXPECT_TRUE(child.ends_well());
  return size;
}

// What the file system keeps for root, the daemon, which is root, may use, and so may the kernel on its behalf.
TEST_P(RightsTest, ReserveForRootIsNotGivenToStrangers) {
  const std::string image = tree() / "image";
  write_file(image, "");
  ASSERT_EQ(::truncate(image.c_str(), 64 << 20), 0);
  const auto made = run_program({"mkfs.ext4", "-q", "-m", "50", image}, {}, kPatience * 2);
  ASSERT_EQ(made.exit_code, 0) << made;
  const auto mounted = run_program({"mount", "-o", "loop", image, source()});
  if (mounted.exit_code != 0) GTEST_SKIP() << "no loop devices here: " << mounted;
  ASSERT_EQ(::chmod(source().c_str(), 0777), 0);
  mount();
  struct statvfs space {};
  ASSERT_EQ(::statvfs(source().c_str(), &space), 0);
  const auto left_for = [&](fsblkcnt_t blocks) { return static_cast<off_t>(blocks * space.f_frsize); };
  const off_t reserve = left_for(space.f_bfree - space.f_bavail);
  ASSERT_GT(reserve, 16 << 20);
  const off_t natively = room_for_a_stranger(source("native"));
  EXPECT_LT(std::abs(natively - left_for(space.f_bavail)), 2 << 20) << natively;
  const off_t mirrored = room_for_a_stranger(mnt("mirrored"));
  EXPECT_LT(std::abs(mirrored - natively), 1 << 20)
      << mirrored << " bytes, natively " << natively << ", the reserve " << reserve;
  const auto is_empty_again = [&] {
    struct statvfs now {};
    return ::statvfs(source().c_str(), &now) == 0 && now.f_bavail + 16 > space.f_bavail;
  };
  ASSERT_TRUE(eventually(is_empty_again));
  const off_t by_a_reader = room_for_a_stranger(mnt("read_too"), Reads::kToo);
  EXPECT_LT(std::abs(by_a_reader - natively), 1 << 20)
      << by_a_reader << " bytes, natively " << natively << ", the reserve " << reserve;
}

}  // namespace
}  // namespace flockfs::test
