// Issue 2, "several daemons on one source interlock"; and with applications that lock the source themselves.

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <csignal>
#include <memory>
#include <string>
#include <vector>

#include "harness/mirror_test.h"

namespace flockfs::test {
namespace {

class InterlockTest : public PassthroughTest {
 protected:
  void SetUp() override {
    write_file(source("f"), "0");
    for (int i = 0; i < 3; ++i) {
      const std::string number = std::to_string(i);
      MirrorSetup setup;
      adapt(setup);
      mirrors_.push_back(
          std::make_unique<MountedMirror>(source(), folder("mnt" + number), folder("scratch" + number), setup));
    }
  }
  [[nodiscard]] std::string at(std::size_t mirror, const std::string& name) const {
    return mirrors_[mirror]->mountpoint() + "/" + name;
  }

  std::vector<std::unique_ptr<MountedMirror>> mirrors_;
};
INSTANTIATE_TEST_SUITE_P(Mount, InterlockTest, BothPassthroughs(), passthrough_name);

TEST_P(InterlockTest, WriterOfOneMirrorKeepsOutTheOthers) {
  Opener writer(at(0, "f"), O_RDWR);
  ASSERT_TRUE(writer.opens());
  Opener reader(at(1, "f"), O_RDONLY);
  Opener other_writer(at(2, "f"), O_RDWR);
  ASSERT_TRUE(mirrors_[1]->waits(reader.pid()));
  ASSERT_TRUE(mirrors_[2]->waits(other_writer.pid()));
  EXPECT_TRUE(writer.write("1"));
  writer.close();
  // One of them gets it, then the other.
  ASSERT_TRUE(eventually([&] { return !reader.is_waiting() || !other_writer.is_waiting(); }));
  const bool reader_first = !reader.is_waiting();
  Opener& first = reader_first ? reader : other_writer;
  Opener& second = reader_first ? other_writer : reader;
  ASSERT_TRUE(first.opens());
  EXPECT_EQ(first.contents(), "1");
  EXPECT_TRUE(second.is_waiting());
  first.close();
  ASSERT_TRUE(second.opens());
  second.close();
}

TEST_P(InterlockTest, ReadersOfAllMirrorsShare) {
  std::vector<std::unique_ptr<Opener>> readers;
  for (std::size_t i = 0; i < 3; ++i) {
    readers.push_back(std::make_unique<Opener>(at(i, "f"), O_RDONLY));
    ASSERT_TRUE(readers.back()->opens());
  }
  EXPECT_TRUE(has_flocks(source("f"), 3));
  EXPECT_EQ(source_lock(source("f")), LockSeen::kShared);
  for (const auto& reader : readers) reader->close();
}

// Reads the number in the file, and writes the next one.
void count_up(const std::string& path, bool with_flock, int times) {
  for (int i = 0; i < times; ++i) {
    const UniqueFd fd = open_file(path, O_RDWR);
    if (with_flock) {
      ASSERT_EQ(::flock(fd.get(), LOCK_EX), 0);
    }
    const std::string next = std::to_string(std::stoi(read_all(fd.get())) + 1);
    ASSERT_EQ(::pwrite(fd.get(), next.data(), next.size(), 0), static_cast<ssize_t>(next.size()));
  }
}

TEST_P(InterlockTest, CounterIsExactAmongAllMirrorsAndTheSource) {
  constexpr int kTimes = 40;
  std::vector<Child> children;
  for (std::size_t i = 0; i < 6; ++i) {
    const std::string path = at(i % 3, "f");
    children.emplace_back([=](Peer&) { count_up(path, false, kTimes); });
  }
  children.emplace_back([&](Peer&) { count_up(source("f"), true, kTimes); });
  children.emplace_back([&](Peer&) { count_up(source("f"), true, kTimes); });
  for (Child& child : children) EXPECT_TRUE(child.ends_well(kPatience * 4));
  EXPECT_EQ(read_file(source("f")), std::to_string(8 * kTimes));
}

TEST_P(InterlockTest, EndOfOneMirrorFreesItsLocksForTheOthers) {
  Opener writer(at(0, "f"), O_RDWR);
  ASSERT_TRUE(writer.opens());
  Opener waiter(at(1, "f"), O_RDWR);
  ASSERT_TRUE(mirrors_[1]->waits(waiter.pid()));
  ::kill(mirrors_[0]->daemon(), SIGKILL);
  ASSERT_TRUE(mirrors_[0]->daemon_exit());
  ASSERT_TRUE(waiter.opens());
  waiter.close();
}

}  // namespace
}  // namespace flockfs::test
