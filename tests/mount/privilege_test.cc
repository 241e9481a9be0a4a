// Set-id bits and file capabilities go with whatever changes a file, by ways that rights_test.cc does not have.

#include <fcntl.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <functional>
#include <string>
#include <vector>

#include "harness/mirror_test.h"
#include "harness/users.h"

namespace flockfs::test {
namespace {

struct Writing {
  std::string name;
  std::function<bool(int fd)> write;
};

std::vector<Writing> more_ways_to_write() {
  const auto piped = [](int fd) {
    int ends[2];
    if (::pipe(ends) != 0 || ::write(ends[1], "xyz", 3) != 3) return false;
    const bool moved = ::splice(ends[0], nullptr, fd, nullptr, 3, 0) == 3;
    ::close(ends[0]);
    ::close(ends[1]);
    return moved;
  };
  const auto from_another = [](auto copy) {
    return [=](int fd) {
      const UniqueFd from = open_file("/var/tmp", O_TMPFILE | O_RDWR);
      return ::write(from.get(), "xyz", 3) == 3 && ::lseek(from.get(), 0, SEEK_SET) == 0 && copy(from.get(), fd);
    };
  };
  return {
      {"splice", piped},
      {"sendfile", from_another([](int from, int fd) { return ::sendfile(fd, from, nullptr, 3) == 3; })},
      {"copy_file_range",
       [](int fd) {  // within the file: across file systems the kernel splices
         off_t from = 0;
         off_t to = 4096;
         return ::copy_file_range(fd, &from, fd, &to, 100, 0) == 100;
       }},
      {"pwritev",
       [](int fd) {
         const std::array<iovec, 1> parts{iovec{const_cast<char*>("xyz"), 3}};
         return ::pwritev(fd, parts.data(), 1, 0) == 3;
       }},
      {"punch", [](int fd) { return ::fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4096) == 0; }},
      {"zero", [](int fd) { return ::fallocate(fd, FALLOC_FL_ZERO_RANGE, 0, 4096) == 0; }},
  };
}

class PrivilegeTest : public PassthroughTest {
 protected:
  // Such a file on both sides, and all may write it.
  void make_both(const std::string& name) {
    for (const std::string& path : {source("native-" + name), source("mirrored-" + name)}) {
      write_file(path, std::string(8192, 'c'));
      ASSERT_EQ(::chmod(path.c_str(), 06777), 0);
      const std::string capability = net_raw_capability();
      ASSERT_EQ(::setxattr(path.c_str(), "security.capability", capability.data(), capability.size(), 0), 0);
    }
  }
  [[nodiscard]] std::string privileges_of(const std::string& path) const {
    const bool capable = ::getxattr(path.c_str(), "security.capability", nullptr, 0) > 0;
    return std::to_string(stat_of(path).st_mode & 07000) + (capable ? " capable" : "");
  }
  void expect_none_left(const std::string& name) {
    EXPECT_EQ(privileges_of(source("native-" + name)), "0") << name;
    EXPECT_EQ(privileges_of(source("mirrored-" + name)), "0") << name;
    EXPECT_TRUE(in_child([&] { EXPECT_EQ(privileges_of(mnt("mirrored-" + name)), "0") << name; }));
  }
};
INSTANTIATE_TEST_SUITE_P(Mount, PrivilegeTest, BothPassthroughs(), passthrough_name);

TEST_P(PrivilegeTest, NoWayForAStrangerToWriteLeavesThem) {
  for (const Writing& way : more_ways_to_write()) make_both(way.name);
  mount();
  EXPECT_TRUE(in_child([&] {
    become_user();
    for (const Writing& way : more_ways_to_write()) {
      for (const std::string& path : {source("native-" + way.name), mnt("mirrored-" + way.name)}) {
        EXPECT_TRUE(way.write(open_file(path, O_RDWR).get())) << path << " " << errno_name(errno);
      }
    }
  }));
  for (const Writing& way : more_ways_to_write()) expect_none_left(way.name);
}

// Whoever the new owner is: it was not he who has given them.
TEST_P(PrivilegeTest, ChangeOfOwnerByRootLeavesNoneEither) {
  make_both("f");
  mount();
  EXPECT_TRUE(in_child([&] {
    for (const std::string& path : {source("native-f"), mnt("mirrored-f")}) EXPECT_EQ(::chown(path.c_str(), 5, 6), 0);
  }));
  expect_none_left("f");
}

}  // namespace
}  // namespace flockfs::test
