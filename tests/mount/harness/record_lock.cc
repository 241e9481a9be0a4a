#include "harness/record_lock.h"

#include <fcntl.h>

#include <cerrno>
#include <stdexcept>

#include "harness/deadline.h"
#include "harness/files.h"

namespace flockfs::test {
namespace {

struct flock record(short type, off_t start = 0, off_t length = 0) {
  struct flock lock {};
  lock.l_type = type;
  lock.l_whence = SEEK_SET;
  lock.l_start = start;
  lock.l_len = length;
  return lock;
}

}  // namespace

LockSeen source_record(const std::string& source_path, RecordLock kind) {
  const UniqueFd fd = open_file(source_path, O_RDONLY | O_NONBLOCK);
  struct flock lock = record(F_WRLCK);
  const int command = kind == RecordLock::kPosix ? F_GETLK : F_OFD_GETLK;
  if (::fcntl(fd.get(), command, &lock) != 0) throw std::runtime_error("F_GETLK: " + errno_name(errno));
  return lock.l_type == F_UNLCK ? LockSeen::kFree : lock.l_type == F_RDLCK ? LockSeen::kShared : LockSeen::kExclusive;
}

::testing::AssertionResult record_becomes(const std::string& source_path, LockSeen lock) {
  LockSeen last{};
  if (eventually([&] { return (last = source_record(source_path)) == lock; })) return ::testing::AssertionSuccess();
  return ::testing::AssertionFailure() << "the record lock of " << source_path << " stays " << last
                                       << " instead of becoming " << lock;
}

int set_record(int fd, short type, RecordLock kind, bool waits) {
  struct flock lock = record(type);
  const int command = kind == RecordLock::kPosix ? (waits ? F_SETLKW : F_SETLK) : (waits ? F_OFD_SETLKW : F_OFD_SETLK);
  return ::fcntl(fd, command, &lock) == 0 ? 0 : errno;
}

RecordHolder::RecordHolder(const std::string& source_path, short type, RecordLock kind, off_t start, off_t length)
    : child_([=](Peer& test) {
        UniqueFd fd = open_file(source_path, O_RDWR);
        struct flock lock = record(type, start, length);
        const int command = kind == RecordLock::kPosix ? F_SETLK : F_OFD_SETLK;
        test.say(eventually([&] { return ::fcntl(fd.get(), command, &lock) == 0; }) ? "locked" : errno_name(errno));
        test.await("release");
        fd.reset();
        test.say("released");
      }) {
  if (const auto word = child_.hear(); word != "locked") {
    throw std::runtime_error("no record lock on " + source_path + ": " + word.value_or("no answer"));
  }
}

void RecordHolder::release() {
  child_.say("release");
  EXPECT_TRUE(child_.says("released"));
  EXPECT_TRUE(child_.ends_well());
}

}  // namespace flockfs::test
