#pragma once

#include <string>

#include "harness/mirror_test.h"
#include "harness/record_client.h"

namespace flockfs::test {

inline constexpr RecordKind kPosix = RecordKind::kPosix;
inline constexpr RecordKind kOfd = RecordKind::kOfd;
inline constexpr Millis kLook{200};  // long enough for a wait that should go on to end

// For the tests of clients' own fcntl(2) locks. The file takes no lock at open, so that clients can have it open at the
// same time for writing.
class RecordLockFixture : public PassthroughTest {
 protected:
  void SetUp() override {
    write_file(source("f"), std::string(100, 'x'));
    make_dir(source("many"));
    mount({.options = {"exclude=f", "exclude=many", "stop_timeout=200"}});
  }
  // Nothing is locked, and what the daemon had open before, it has open again.
  void expect_nothing_left(int descriptors) {
    EXPECT_TRUE(record_becomes_free(source("f")));
    EXPECT_TRUE(eventually([&] { return mirror().descriptors() <= descriptors; }))
        << mirror().descriptors() << " descriptors, " << descriptors << " before";
  }
};

}  // namespace flockfs::test
