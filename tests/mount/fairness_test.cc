// DESIGN 1.5, fairness: among the mirror's clients it is first come, first served; and overlapping readers of the
// mirror keep no writer waiting for ever, neither on the mirror nor on the source.

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <string>

#include "harness/crowd.h"
#include "harness/mirror_test.h"

namespace flockfs::test {
namespace {

class FairnessTest : public PassthroughTest {
 protected:
  void SetUp() override {
    write_file(source("f"), "contents");
    mount();
  }
};
INSTANTIATE_TEST_SUITE_P(Mount, FairnessTest, BothPassthroughs(), passthrough_name);

TEST_P(FairnessTest, ReaderDoesNotPassAWaitingWriter) {
  Opener first(mnt("f"), O_RDONLY);
  ASSERT_TRUE(first.opens());
  Opener writer(mnt("f"), O_RDWR);
  ASSERT_TRUE(mirror().waits(writer.pid()));
  Opener second(mnt("f"), O_RDONLY);
  ASSERT_TRUE(mirror().waits(second.pid()));
  EXPECT_TRUE(second.is_waiting());
  first.close();
  ASSERT_TRUE(writer.opens());
  EXPECT_TRUE(second.is_waiting());
  writer.close();
  ASSERT_TRUE(second.opens());
  second.close();
}

TEST_P(FairnessTest, WritersAreServedInTheOrderOfTheirComing) {
  Opener first(mnt("f"), O_RDWR);
  ASSERT_TRUE(first.opens());
  Opener second(mnt("f"), O_RDWR);
  ASSERT_TRUE(mirror().waits(second.pid()));
  Opener third(mnt("f"), O_RDWR);
  ASSERT_TRUE(mirror().waits(third.pid()));
  first.close();
  ASSERT_TRUE(second.opens());
  EXPECT_TRUE(third.is_waiting());
  second.close();
  ASSERT_TRUE(third.opens());
  third.close();
}

TEST_P(FairnessTest, ReadersBehindTheWriterAreLetInTogether) {
  Opener writer(mnt("f"), O_RDWR);
  ASSERT_TRUE(writer.opens());
  Opener first(mnt("f"), O_RDONLY);
  Opener second(mnt("f"), O_RDONLY);
  ASSERT_TRUE(mirror().waits(first.pid()));
  ASSERT_TRUE(mirror().waits(second.pid()));
  writer.close();
  ASSERT_TRUE(first.opens());
  ASSERT_TRUE(second.opens());
  EXPECT_TRUE(has_flocks(source("f"), 2));
  first.close();
  second.close();
}

TEST_P(FairnessTest, WriterWhoseWaitIsEndedNoLongerHoldsUpReaders) {
  Opener first(mnt("f"), O_RDONLY);
  ASSERT_TRUE(first.opens());
  Opener writer(mnt("f"), O_RDWR);
  ASSERT_TRUE(mirror().waits(writer.pid()));
  Opener second(mnt("f"), O_RDONLY);
  ASSERT_TRUE(mirror().waits(second.pid()));
  writer.child().signal(SIGKILL);
  ASSERT_TRUE(second.opens());
  first.close();
  second.close();
}

// Eight readers, each opening again as soon as it has closed, so that somebody always has the file open.
class OverlappingReaders {
 public:
  explicit OverlappingReaders(const std::string& path)
      : crowd_(8, [=](int index) {
          ::usleep(static_cast<useconds_t>(index) * 5000);
          for (;;) {
            const UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
            if (!fd) return errno;
            ::usleep(40000);  // the work of the reader
          }
        }) {}
  ~OverlappingReaders() {
    crowd_.signal(SIGKILL);
    EXPECT_TRUE(crowd_.all_gone());
  }
  OverlappingReaders(const OverlappingReaders&) = delete;
  OverlappingReaders& operator=(const OverlappingReaders&) = delete;

 private:
  Crowd crowd_;
};

TEST_P(FairnessTest, WritersOnMirrorAndSourceGetThroughEightOverlappingReaders) {
  const OverlappingReaders readers(mnt("f"));
  ASSERT_TRUE(log().wait_for_count({.event = "lock", .path = source("f")}, 8));
  // They do overlap: whoever only tries never gets it.
  for (int i = 0; i < 50; ++i) {
    EXPECT_FALSE(try_flock_source(source("f"), LOCK_EX));
    pause_for(Millis(4));
  }
  for (int round = 0; round < 3; ++round) {
    SCOPED_TRACE(round);
    const Stopwatch watch;
    Opener on_mirror(mnt("f"), O_RDWR);
    ASSERT_TRUE(on_mirror.opens());
    EXPECT_LT(watch.elapsed(), scaled(Millis(2000)));
    on_mirror.close();
    const Stopwatch second_watch;
    EXPECT_TRUE(in_child([&] {
      const UniqueFd fd = open_file(source("f"), O_RDWR);
      EXPECT_EQ(::flock(fd.get(), LOCK_EX), 0);
    }));
    EXPECT_LT(second_watch.elapsed(), scaled(Millis(2000)));
  }
}

TEST_P(FairnessTest, WritersOnMirrorAndSourceAtTheSameTimeGetThrough) {
  const OverlappingReaders readers(mnt("f"));
  ASSERT_TRUE(log().wait_for_count({.event = "lock", .path = source("f")}, 8));
  const Stopwatch watch;
  Child on_mirror([&](Peer&) { EXPECT_EQ(open_error(mnt("f"), O_RDWR), 0); });
  Child on_source([&](Peer&) {
    const UniqueFd fd = open_file(source("f"), O_RDWR);
    EXPECT_EQ(::flock(fd.get(), LOCK_EX), 0);
  });
  EXPECT_TRUE(on_source.ends_well());
  EXPECT_TRUE(on_mirror.ends_well());
  EXPECT_LT(watch.elapsed(), scaled(Millis(2000)));
}

}  // namespace
}  // namespace flockfs::test
