// DESIGN 1.9 under each lock=: where the mirror holds a record lock for each open, clients' own exclude one another and
// do not meet it.

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <string>

#include "record_lock_fixture.h"

namespace flockfs::test {
namespace {

class RecordLockKindTest : public MirrorTest, public ::testing::WithParamInterface<std::string> {
 protected:
  void SetUp() override {
    write_file(source("f"), std::string(100, 'x'));
    write_file(source("g"), std::string(100, 'x'));
    mount({.options = {"lock=" + GetParam(), "exclude=g"}});
  }
};
INSTANTIATE_TEST_SUITE_P(Mount, RecordLockKindTest, ::testing::Values("flock", "ofd", "flock+ofd"),
                         [](const auto& kind) { return kind.param == "flock+ofd" ? "both" : kind.param; });

TEST_P(RecordLockKindTest, WriterLocksRecordsOfItsFile) {
  RecordClient client;
  const int fd = client.open(mnt("f"), O_RDWR);
  EXPECT_EQ(client.query(fd, F_WRLCK), "free");
  for (const RecordKind kind : {kPosix, kOfd}) {
    EXPECT_EQ(client.set(fd, F_WRLCK, {0, 10}, kind), 0);
    EXPECT_EQ(client.set(fd, F_RDLCK, {5, 10}, kind), 0);
    client.begin_wait(fd, F_WRLCK, {}, kind);
    EXPECT_TRUE(client.wait_ends());
    EXPECT_EQ(client.set(fd, F_UNLCK, {}, kind), 0);
  }
  // What the open has locked stays so.
  EXPECT_EQ(record_is_free(source("f"), F_RDLCK), GetParam() == "flock");
  client.close(fd);
  EXPECT_TRUE(record_becomes_free(source("f")));
}

TEST_P(RecordLockKindTest, ProcessesThatShareAnOpenFileExcludeOneAnother) {
  const auto in_both = [&](Peer& test) {
    const UniqueFd fd = open_file(mnt("f"), O_RDWR);
    ASSERT_EQ(set_record(fd.get(), F_WRLCK, {0, 10}), 0);
    const pid_t holder = ::getpid();
    const pid_t other = ::fork();
    if (other == 0) {
      EXPECT_EQ(set_record(fd.get(), F_RDLCK, {5, 10}), EAGAIN);
      EXPECT_EQ(query_record(fd.get(), F_RDLCK, {5, 10}), "write 0 10 " + std::to_string(holder));
      EXPECT_EQ(set_record(fd.get(), F_WRLCK, {10, 10}), 0);
      test.say("waits");
      EXPECT_EQ(set_record(fd.get(), F_WRLCK, {0, 0}, kPosix, true), 0);
      test.say(::testing::Test::HasFailure() ? "failed" : "has it");
      ::_exit(0);
    }
    test.await("unlock");
    EXPECT_EQ(set_record(fd.get(), F_UNLCK), 0);
    test.await("end");
  };
  Child child(in_both);
  ASSERT_TRUE(child.says("waits"));
  EXPECT_TRUE(child.silent(Millis(100)));
  child.say("unlock");
  EXPECT_TRUE(child.says("has it"));
  child.say("end");
  EXPECT_TRUE(child.ends_well());
  EXPECT_TRUE(record_becomes_free(source("f")));
}

TEST_P(RecordLockKindTest, ReadersLockTogether) {
  RecordClient one;
  RecordClient other;
  RecordClient third;
  const int descriptors = mirror().descriptors();
  ASSERT_EQ(one.set(one.open(mnt("f"), O_RDONLY), F_RDLCK, {}, kOfd), 0);
  // The other readers may not lock for writing, as anywhere.
  EXPECT_EQ(other.set(other.open(mnt("f"), O_RDONLY), F_WRLCK), EBADF);
  EXPECT_EQ(third.set(third.open(mnt("f"), O_RDONLY), F_RDLCK), 0);
  one.end();
  other.end();
  third.end();
  EXPECT_TRUE(eventually([&] { return mirror().descriptors() <= descriptors; }));
}

// What the filter passes is locked in the source whatever lock= says.
TEST_P(RecordLockKindTest, FileThatTheFilterPassedIsLockedInTheSource) {
  RecordClient one;
  RecordClient other;
  const int fd = one.open(mnt("g"), O_RDWR);
  const int other_fd = other.open(mnt("g"), O_RDWR);
  ASSERT_EQ(one.set(fd, F_WRLCK, {0, 10}), 0);
  EXPECT_FALSE(record_is_free(source("g"), F_RDLCK, {0, 10}));
  EXPECT_TRUE(record_is_free(source("g"), F_WRLCK, {10, 0}));
  EXPECT_EQ(other.set(other_fd, F_WRLCK), EAGAIN);
  ForeignRecord foreign(source("g"), F_WRLCK, {10, 10});
  EXPECT_EQ(other.set(other_fd, F_WRLCK, {10, 1}), EAGAIN);
}

}  // namespace
}  // namespace flockfs::test
