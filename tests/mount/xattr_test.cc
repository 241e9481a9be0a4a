// Issue 2, deliverable 1: extended attributes and access control lists.

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <cerrno>
#include <string>

#include "harness/mirror_test.h"
#include "harness/program.h"
#include "harness/users.h"

namespace flockfs::test {
namespace {

class XattrTest : public PassthroughTest {
 protected:
  void SetUp() override {
    write_file(source("f"), "contents");
    make_dir(source("d"));
    mount();
  }
};
INSTANTIATE_TEST_SUITE_P(Mount, XattrTest, BothPassthroughs(), passthrough_name);

std::string get(const std::string& path, const std::string& name) {
  std::string value(65536, '\0');
  const ssize_t size = ::lgetxattr(path.c_str(), name.c_str(), value.data(), value.size());
  if (size < 0) return errno_name(errno);
  value.resize(static_cast<std::size_t>(size));
  return value;
}

int set(const std::string& path, const std::string& name, const std::string& value, int flags = 0) {
  return ::lsetxattr(path.c_str(), name.c_str(), value.data(), value.size(), flags) == 0 ? 0 : errno;
}

TEST_P(XattrTest, AreSetReadListedAndRemoved) {
  EXPECT_TRUE(in_child([&] {
    for (const std::string& path : {mnt("f"), mnt("d"), mnt()}) {
      EXPECT_EQ(set(path, "user.one", "1"), 0);
      EXPECT_EQ(set(path, "user.two", std::string("\0\xff", 2)), 0);
      EXPECT_EQ(set(path, "trusted.three", "3"), 0);
      EXPECT_EQ(set(path, "user.empty", ""), 0);
      EXPECT_EQ(get(path, "user.two"), std::string("\0\xff", 2));
      EXPECT_EQ(get(path, "user.empty"), "");
      EXPECT_EQ(get(path, "user.missing"), "ENODATA");
      std::string list(1000, '\0');
      const ssize_t size = ::llistxattr(path.c_str(), list.data(), list.size());
      ASSERT_GT(size, 0);
      list.resize(static_cast<std::size_t>(size));
      EXPECT_NE(list.find("user.one"), std::string::npos);
      EXPECT_NE(list.find("trusted.three"), std::string::npos);
      EXPECT_EQ(::lremovexattr(path.c_str(), "user.one"), 0);
      EXPECT_EQ(get(path, "user.one"), "ENODATA");
    }
  }));
  EXPECT_EQ(get(source("f"), "trusted.three"), "3");
  EXPECT_EQ(get(source("f"), "user.two"), std::string("\0\xff", 2));
}

TEST_P(XattrTest, FlagsAndSizesAreHonoured) {
  EXPECT_TRUE(in_child([&] {
    const std::string path = mnt("f");
    EXPECT_EQ(set(path, "user.x", "1", XATTR_REPLACE), ENODATA);
    EXPECT_EQ(set(path, "user.x", "12345", XATTR_CREATE), 0);
    EXPECT_EQ(set(path, "user.x", "1", XATTR_CREATE), EEXIST);
    char small[2];
    EXPECT_EQ(::lgetxattr(path.c_str(), "user.x", small, sizeof small), -1);
    EXPECT_EQ(errno, ERANGE);
    EXPECT_EQ(::lgetxattr(path.c_str(), "user.x", nullptr, 0), 5);
    EXPECT_EQ(::llistxattr(path.c_str(), small, sizeof small), -1);
    EXPECT_EQ(errno, ERANGE);
    EXPECT_EQ(set(path, "user.big", std::string(3000, 'b')), 0);
    EXPECT_EQ(get(path, "user.big").size(), 3000u);
    EXPECT_EQ(set(path, "nonsense", "1"), EOPNOTSUPP);
  }));
}

TEST_P(XattrTest, StrangerMaySetOnlyHisOwn) {
  ASSERT_EQ(::chown(source("d").c_str(), kStranger, kStrangerGroup), 0);
  EXPECT_TRUE(in_child([&] {
    become_user();
    EXPECT_EQ(set(mnt("d"), "user.mine", "1"), 0);
    EXPECT_EQ(set(mnt("f"), "user.his", "1"), EACCES);
    EXPECT_EQ(set(mnt("d"), "trusted.no", "1"), EPERM);
    EXPECT_EQ(set(mnt("d"), "security.no", "1"), EPERM);
    EXPECT_EQ(get(mnt("d"), "user.mine"), "1");
  }));
}

TEST_P(XattrTest, AccessListSetThroughTheMirrorIsThatOfTheSource) {
  const std::string user = "user:" + std::to_string(kStranger);
  const auto result = run_program({"setfacl", "-m", user + ":rw-", mnt("f")});
  ASSERT_EQ(result.exit_code, 0) << result;
  const auto on_source = run_program({"getfacl", "-cpn", source("f")});
  EXPECT_NE(on_source.out.find(user + ":rw-"), std::string::npos) << on_source;
  EXPECT_EQ(run_program({"getfacl", "-cpn", mnt("f")}).out, on_source.out);
  EXPECT_TRUE(in_child([&] {
    // The mask shows as the group's bits, at once.
    EXPECT_EQ(stat_of(mnt("f")).st_mode, stat_of(source("f")).st_mode);
    become_user();
    EXPECT_EQ(open_error(mnt("f"), O_RDWR), 0);
  }));
}

TEST_P(XattrTest, ChmodChangesTheMaskOfAnAccessList) {
  const std::string user = "user:" + std::to_string(kStranger);
  ASSERT_EQ(run_program({"setfacl", "-m", user + ":rw-", source("f")}).exit_code, 0);
  EXPECT_TRUE(in_child([&] {
    EXPECT_EQ(::chmod(mnt("f").c_str(), 0600), 0);
    become_user();
    EXPECT_EQ(open_error(mnt("f"), O_RDONLY), EACCES);
    EXPECT_EQ(open_error(source("f"), O_RDONLY), EACCES);
  }));
}

TEST_P(XattrTest, ToolsCopyThemAlong) {
  ASSERT_EQ(set(source("f"), "user.kept", "value"), 0);
  const auto result = run_program({"cp", "-a", mnt("f"), mnt("copy")});
  ASSERT_EQ(result.exit_code, 0) << result;
  EXPECT_EQ(get(source("copy"), "user.kept"), "value");
}

}  // namespace
}  // namespace flockfs::test
