// Who has a part in a lock without having opened the file, and what threads do to each other's locks of one process.

#include "lock/join_fixture.h"

namespace flockfs::test {
namespace {

class HeirTest : public JoinTest {
 protected:
  bool looked_again() {
    const int before = holders_.looks;
    return ticked_until([&] { return holders_.looks > before + 3; });
  }
};

// It cannot be seen in which of the shared locks it has a part, and the writer waits for all of them.
TEST_F(HeirTest, ReadsWhileAWriterWaitsForSeveralReaders) {
  Hold one = open(10, kShared);
  Hold other = open(20, kShared);
  auto writer = park_of(30, kExclusive);
  holders_.set(11, kFile, 1);
  auto heir = park_of(11, kShared);
  EXPECT_TRUE(ticked_until([&] { return heir->granted(); }));
  EXPECT_FALSE(writer->told());
  heir->hold.reset();
  one.reset();
  other.reset();
  EXPECT_TRUE(ticked_until([&] { return writer->granted(); }));
}

// Its exclusive open may join as soon as it is known which lock it has a part in: no circle, although its own file is
// in its way.
TEST_F(HeirTest, WritesWhenOneLockIsLeft) {
  Hold one = open(10, kShared);
  Hold other = open(20, kShared);
  holders_.set(11, kFile, 1);
  auto heir = park_of(11, kExclusive);
  EXPECT_TRUE(looked_again());
  EXPECT_FALSE(heir->told());
  pool_->wait_idle();  // a look under way would be made again by the clock, which stands still from here on
  other.reset();
  EXPECT_TRUE(eventually([&] { return heir->granted(); })) << "looked at without waiting for the next time";
}

// What it has may be of an open without a lock.
TEST_F(HeirTest, OfAnOpenWithoutALockIsAStranger) {
  const Hold writer = open(10, kExclusive);
  holders_.set_in_doubt(11, kFile);
  EXPECT_FALSE(join(11, kShared).valid());
  auto reader = park_of(11, kShared);
  EXPECT_TRUE(looked_again());
  EXPECT_FALSE(reader->told());
  room_->stop_waits();
}

// While the one thread gives its lock up, another one opens the file and calls flock(2), too.
TEST_F(HeirTest, LockThatAnotherThreadIsGivingUpIsLeftToIt) {
  Hold stranger = open(20, kShared);
  const Hold first = open(10, kShared);
  Hold second;
  std::shared_ptr<Told> second_call;
  locker_.on_unlock = [&](int) {
    second = open(10, kShared);
    second_call = park_flock(second, kExclusive, 10);
  };
  auto first_call = park_flock(first, kExclusive, 10);
  ASSERT_TRUE(second.valid());
  stranger.reset();
  EXPECT_TRUE(ticked_until([&] { return first_call->told() || second_call->told(); }));
  room_->stop_waits();
}

TEST_F(HeirTest, WithReopenWaitAFlockTakesNoLockOfAnotherOpen) {
  use(Reopen::kWait);
  Hold reads = open(10, kShared);
  const Hold calls = open(10, kShared);
  EXPECT_EQ(room_->try_flock(calls, kExclusive).error, EWOULDBLOCK);
  auto waiting = park_flock(calls, kExclusive, 10);
  EXPECT_TRUE(locker_.holds(kShared)) << "the other open has lost its lock";
  EXPECT_FALSE(waiting->told());
  reads.reset();
  EXPECT_TRUE(ticked_until([&] { return waiting->granted(); }));
}

// A lock that is to be had again stands before an upgrade that waits for somebody outside, when it is time to look.
TEST_F(HeirTest, UpgradeThatIsHeldOffIsNotForgottenBehindAnother) {
  const Hold own = open(10, kShared);
  Hold other = open(20, kShared);
  holders_.set(10, kFile, 1);
  auto flock = park_flock(other, kExclusive, 20);
  locker_.reader_outside = true;
  foreign_.locks = {{.file = kFile, .kind = ForeignLockKind::kFlock, .mode = kShared, .waits = false, .pid = 99}};
  auto upgrade = park_of(10, kExclusive);
  EXPECT_TRUE(ticked_until([&] { return locker_.upgrades >= 1; }));
  locker_.hold_outside(true);
  probe_.ending = true;
  room_->interrupt(flock->id);
  EXPECT_TRUE(ticked_until([&] { return flock->told(); }));
  probe_.ending = false;
  for (int i = 0; i < 100; ++i) pass(milliseconds(10));
  EXPECT_FALSE(upgrade->told());
  foreign_.locks.clear();
  locker_.reader_outside = false;
  locker_.hold_outside(false);
  EXPECT_TRUE(ticked_until([&] { return locker_.held() == 2; }));
  other.reset();
  EXPECT_TRUE(ticked_until([&] { return upgrade->granted(); }));
}

// The source's file system says EIO: it is tried again.
TEST_F(HeirTest, LockThatCannotBeHadAgainForAnErrorIsTriedAgain) {
  Hold stranger = open(20, kShared);
  Hold own = open(10, kShared);
  auto flock = park_flock(own, kExclusive, 10);
  EXPECT_EQ(locker_.held(), 1U);
  locker_.fail_with(EIO);
  stranger.reset();
  EXPECT_TRUE(ticked_until([&] { return flock->told(); }));
  EXPECT_EQ(flock->error, EIO);
  EXPECT_EQ(locker_.held(), 0U);
  locker_.fail_with(0);
  EXPECT_TRUE(ticked_until([&] { return locker_.holds(kShared); }));
}

}  // namespace
}  // namespace flockfs::test
