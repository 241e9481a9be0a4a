// DESIGN 1.10: lock=flock+ofd where flock and record locks exclude each other.

#include <fcntl.h>
#include <sys/file.h>

#include <cerrno>
#include <optional>
#include <string>

#include "harness/mirror_test.h"
#include "harness/one_lock_fs.h"
#include "harness/record_lock.h"

namespace flockfs::test {
namespace {

class OneLockTest : public MirrorTest {
 protected:
  // A mirror of `directory`, or of source() with that below it.
  void serve(const std::string& directory) {
    write_file(source("plain"), "contents");
    lower_.emplace(directory);
    mount({.options = {"lock=flock+ofd"}});
  }
  void end() {
    unmount();
    lower_.reset();
  }
  [[nodiscard]] const OneLockFs& lower() const { return *lower_; }

  // flock is taken, and nothing else.
  void expect_flock_alone(const std::string& name) {
    for (const int flags : {O_RDONLY, O_RDWR, O_WRONLY | O_TRUNC}) {
      Opener opener(mnt(name), flags);
      ASSERT_TRUE(opener.opens());
      EXPECT_TRUE(in_child([&] {  // so others of both kinds see it
        const UniqueFd fd = open_file(source(name), O_RDWR);
        EXPECT_EQ(set_record(fd.get(), F_WRLCK, RecordLock::kPosix), EAGAIN);
        EXPECT_NE(::flock(fd.get(), LOCK_EX | LOCK_NB), 0);
      }));
      opener.close();
    }
  }

 private:
  std::optional<OneLockFs> lower_;
};

TEST_F(OneLockTest, SourceIsFoundOutAtMountTime) {
  serve(source());
  const auto said = log().wait_for({.event = "flock_alone", .path = source()});
  ASSERT_TRUE(said) << log().text();
  EXPECT_EQ(said->get("reason"), "record_locks_exclude_flock");
  const int before = lower().calls().records;
  Opener opener(mnt("f"), O_RDWR);
  ASSERT_TRUE(opener.opens());
  opener.close();
  EXPECT_EQ(lower().calls().records, before);
  EXPECT_EQ(lower().calls().flocks, 1);
  EXPECT_EQ(log().count({.event = "flock_alone"}), 1u);
  EXPECT_EQ(list_dir(source()), std::vector<std::string>{"f"}) << "the question has left something behind";
  end();
}

TEST_F(OneLockTest, FileSystemBelowIsFoundOutBeforeItsFirstLock) {
  make_dir(source("sub"));
  serve(source("sub"));
  EXPECT_EQ(log().count({.event = "flock_alone"}), 0u);
  Opener first(mnt("sub/f"), O_RDONLY);
  ASSERT_TRUE(first.opens());
  first.close();
  const auto said = log().wait_for({.event = "flock_alone", .path = source("sub")});
  ASSERT_TRUE(said) << log().text();
  EXPECT_EQ(lower().calls().records, 0);
  expect_flock_alone("sub/f");
  EXPECT_EQ(log().count({.event = "flock_alone"}), 1u);
  // Elsewhere both.
  Opener plain(mnt("plain"), O_RDWR);
  ASSERT_TRUE(plain.opens());
  EXPECT_EQ(source_record(source("plain")), LockSeen::kExclusive);
  EXPECT_EQ(source_lock(source("plain")), LockSeen::kExclusive);
  plain.close();
  EXPECT_TRUE(record_becomes(source("plain"), LockSeen::kFree));
  end();
}

TEST_F(OneLockTest, OpensWaitForEitherKind) {
  make_dir(source("sub"));
  serve(source("sub"));
  RecordHolder record(source("sub/f"), F_WRLCK, RecordLock::kPosix);
  Opener reader(mnt("sub/f"), O_RDONLY);
  ASSERT_TRUE(mirror().waits(reader.pid()));
  EXPECT_TRUE(reader.is_waiting());
  record.release();
  ASSERT_TRUE(reader.opens());
  reader.close();
  ForeignLock flocked(source("sub/f"), LOCK_EX);
  Opener writer(mnt("sub/f"), O_RDWR);
  ASSERT_TRUE(mirror().waits(writer.pid()));
  flocked.release();
  ASSERT_TRUE(writer.opens());
  writer.close();
  end();
}

// Each file of ours is locked there from the start, by ourselves.
TEST_F(OneLockTest, MirrorOfAMirrorIsNotAskedAndDoesNotHang) {
  write_file(source("f"), "contents");
  mount({.options = {"lock=flock+ofd"}});
  const std::string outer = folder("outer");
  MountedMirror second(mnt(), outer, folder("outer-scratch"), {.options = {"lock=flock+ofd"}});
  EXPECT_TRUE(in_child([&] { EXPECT_EQ(read_file(outer + "/f"), "contents"); }));
  second.stop();
}

}  // namespace
}  // namespace flockfs::test
