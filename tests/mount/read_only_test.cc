// The options ro and noatime hold below the daemon as well: every call that changes something is refused, by the flag
// of the mount and again by the source; and no way to read moves an access time, that of the kernel itself included.

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "harness/mirror_test.h"
#include "harness/program.h"

namespace flockfs::test {
namespace {

class ReadOnlyTest : public MirrorTest {
 protected:
  void SetUp() override {
    write_file(source("f"), "contents");
    write_file(source("g"), "contents");
    make_dir(source("d"));
    ASSERT_EQ(::symlink("f", source("link").c_str()), 0);
    ASSERT_EQ(::lsetxattr(source("f").c_str(), "user.kept", "1", 1, 0), 0) << errno_name(errno);
    before_ = state();
    mount({.options = {"ro"}});
  }
  // All that a change could change. The access times are tested below.
  [[nodiscard]] std::string state() const {
    const auto found = run_program({"find", source(), "-printf", "%P %y %m %U %G %n %s %T@ %C@ %l\n"});
    EXPECT_EQ(found.exit_code, 0) << found;
    return found.out;
  }
  void expect_untouched() const { EXPECT_EQ(state(), before_); }

 private:
  std::string before_;
};

struct Change {
  std::string name;
  std::function<int(const std::string& dir)> call;  // 0 or an errno
};

int error_of(long result) { return result == 0 ? 0 : errno; }

// open(2), for writing, of a file that is open for reading.
int open_again(const std::string& path, int flags) {
  const UniqueFd fd = open_file(path, O_RDONLY);
  return open_error("/proc/self/fd/" + std::to_string(fd.get()), flags);
}

std::vector<Change> opens_that_write() {
  return {
      {"O_WRONLY", [](const auto& dir) { return open_error(dir + "/f", O_WRONLY); }},
      {"O_RDWR", [](const auto& dir) { return open_error(dir + "/f", O_RDWR); }},
      {"O_APPEND", [](const auto& dir) { return open_error(dir + "/f", O_WRONLY | O_APPEND); }},
      {"O_TRUNC", [](const auto& dir) { return open_error(dir + "/f", O_WRONLY | O_TRUNC); }},
      {"O_RDONLY|O_TRUNC", [](const auto& dir) { return open_error(dir + "/f", O_RDONLY | O_TRUNC); }},
      {"through a symlink", [](const auto& dir) { return open_error(dir + "/link", O_RDWR); }},
      {"fallocate, through /proc", [](const auto& dir) { return open_again(dir + "/f", O_WRONLY); }},
      {"O_TRUNC, through /proc", [](const auto& dir) { return open_again(dir + "/f", O_RDWR | O_TRUNC); }},
      {"creat", [](const auto& dir) { return open_error(dir + "/new", O_WRONLY | O_CREAT | O_TRUNC); }},
      {"O_EXCL", [](const auto& dir) { return open_error(dir + "/new", O_RDONLY | O_CREAT | O_EXCL); }},
      {"creat in a directory", [](const auto& dir) { return open_error(dir + "/d/new", O_RDWR | O_CREAT); }},
      {"O_TMPFILE", [](const auto& dir) { return open_error(dir, O_RDWR | O_TMPFILE); }},
  };
}

std::vector<Change> changes_of_names() {
  const auto rename = [](unsigned flags, const char* to) {
    return [=](const std::string& dir) {
      return error_of(::renameat2(AT_FDCWD, (dir + "/f").c_str(), AT_FDCWD, (dir + to).c_str(), flags));
    };
  };
  const auto node = [](mode_t mode) {
    return [=](const std::string& dir) { return error_of(::mknod((dir + "/new").c_str(), mode, makedev(1, 3))); };
  };
  return {
      {"mkdir", [](const auto& dir) { return error_of(::mkdir((dir + "/new").c_str(), 0755)); }},
      {"mknod of a file", node(S_IFREG | 0644)},
      {"mknod of a FIFO", node(S_IFIFO | 0644)},
      {"mknod of a socket", node(S_IFSOCK | 0644)},
      {"mknod of a device", node(S_IFCHR | 0644)},
      {"symlink", [](const auto& dir) { return error_of(::symlink("x", (dir + "/new").c_str())); }},
      {"link", [](const auto& dir) { return error_of(::link((dir + "/f").c_str(), (dir + "/new").c_str())); }},
      {"unlink", [](const auto& dir) { return error_of(::unlink((dir + "/f").c_str())); }},
      {"unlink of a symlink", [](const auto& dir) { return error_of(::unlink((dir + "/link").c_str())); }},
      {"rmdir", [](const auto& dir) { return error_of(::rmdir((dir + "/d").c_str())); }},
      {"rename", rename(0, "/new")},
      {"rename onto another", rename(0, "/g")},
      {"rename, NOREPLACE", rename(RENAME_NOREPLACE, "/new")},
      {"rename, EXCHANGE", rename(RENAME_EXCHANGE, "/g")},
      {"rename, WHITEOUT", rename(RENAME_WHITEOUT, "/new")},
      {"rename into a directory", rename(0, "/d/new")},
  };
}

std::vector<Change> changes_of_attributes() {
  const auto on_open_file = [](auto call) {
    return [=](const std::string& dir) { return error_of(call(open_file(dir + "/f", O_RDONLY).get())); };
  };
  const auto times = [](const char* name, int flags) {
    return [=](const std::string& dir) {
      const std::array<timespec, 2> to{timespec{1000, 0}, timespec{2000, 0}};
      return error_of(::utimensat(AT_FDCWD, (dir + name).c_str(), to.data(), flags));
    };
  };
  return {
      {"truncate", [](const auto& dir) { return error_of(::truncate((dir + "/g").c_str(), 1)); }},
      {"chmod", [](const auto& dir) { return error_of(::chmod((dir + "/f").c_str(), 0600)); }},
      {"chmod of a directory", [](const auto& dir) { return error_of(::chmod((dir + "/d").c_str(), 0700)); }},
      {"fchmod", on_open_file([](int fd) { return ::fchmod(fd, 0600); })},
      {"chown", [](const auto& dir) { return error_of(::chown((dir + "/f").c_str(), 5, 6)); }},
      {"lchown", [](const auto& dir) { return error_of(::lchown((dir + "/link").c_str(), 5, 6)); }},
      {"fchown", on_open_file([](int fd) { return ::fchown(fd, 5, 6); })},
      {"utimensat", times("/f", 0)},
      {"utimensat of a symlink", times("/link", AT_SYMLINK_NOFOLLOW)},
      {"futimens", on_open_file([](int fd) { return ::futimens(fd, nullptr); })},
      {"setxattr", [](const auto& dir) { return error_of(::setxattr((dir + "/f").c_str(), "user.x", "1", 1, 0)); }},
      {"lsetxattr",
       [](const auto& dir) { return error_of(::lsetxattr((dir + "/link").c_str(), "trusted.x", "", 0, 0)); }},
      {"fsetxattr", on_open_file([](int fd) { return ::fsetxattr(fd, "user.kept", "2", 1, XATTR_REPLACE); })},
      {"removexattr", [](const auto& dir) { return error_of(::removexattr((dir + "/f").c_str(), "user.kept")); }},
      {"fremovexattr", on_open_file([](int fd) { return ::fremovexattr(fd, "user.kept"); })},
  };
}

std::vector<Change> all_changes() {
  std::vector<Change> all = opens_that_write();
  for (auto more : {changes_of_names(), changes_of_attributes()}) all.insert(all.end(), more.begin(), more.end());
  return all;
}

TEST_F(ReadOnlyTest, EveryCallThatChangesSomethingIsRefused) {
  EXPECT_TRUE(in_child([&] {
    for (const Change& change : all_changes()) EXPECT_EQ(errno_name(change.call(mnt())), "EROFS") << change.name;
    EXPECT_EQ(error_of(::access(mnt("f").c_str(), W_OK)), EROFS);
  }));
  expect_untouched();
}

// Without the flags of the mount and of the mirror's file system the calls come as far as the daemon.
TEST_F(ReadOnlyTest, EveryCallIsRefusedByTheSourceToo) {
  ASSERT_EQ(::mount(nullptr, mnt().c_str(), nullptr, MS_REMOUNT, nullptr), 0) << errno_name(errno);
  EXPECT_TRUE(in_child([&] {
    ASSERT_EQ(error_of(::access(mnt("f").c_str(), W_OK)), 0) << "the kernel itself still refuses";
    for (const Change& change : all_changes()) EXPECT_EQ(errno_name(change.call(mnt())), "EROFS") << change.name;
    EXPECT_EQ(read_file(mnt("f")), "contents");
  }));
  expect_untouched();
  EXPECT_TRUE(becomes_free(source("f")));
}

// The source on a mount that keeps access times strictly: whatever reads moves them.
class AccessTimeTest : public PassthroughTest {
 protected:
  void SetUp() override {
    ASSERT_EQ(::mount(source().c_str(), source().c_str(), nullptr, MS_BIND, nullptr), 0);
    ASSERT_EQ(::mount(nullptr, source().c_str(), nullptr, MS_REMOUNT | MS_BIND | MS_STRICTATIME, nullptr), 0);
    for (const auto& [name, read] : ways_to_read()) write_file(source(name), std::string(5000, 'x'), 0755);
    ASSERT_EQ(::symlink("x", source("link").c_str()), 0);
    make_dir(source("dir"));
    for (const std::string& name : list_dir(source())) {
      const std::array<timespec, 2> long_ago{timespec{2000, 0}, timespec{1000, 0}};  // relatime would leave it so
      ASSERT_EQ(::utimensat(AT_FDCWD, source(name).c_str(), long_ago.data(), AT_SYMLINK_NOFOLLOW), 0);
    }
  }

  using Read = std::function<bool(const std::string& path)>;
  [[nodiscard]] static std::map<std::string, Read> ways_to_read() {
    return {
        {"read", [](const std::string& path) { return read_file(path).size() == 5000; }},
        {"written", [](const std::string& path) { return read_all(open_file(path, O_RDWR).get()).size() == 5000; }},
        {"mapped", read_mapped},
        {"sent",
         [](const std::string& path) {
           const UniqueFd to = open_file("/var/tmp", O_TMPFILE | O_RDWR);
           return ::sendfile(to.get(), open_file(path, O_RDONLY).get(), nullptr, 5000) == 5000;
         }},
    };
  }
  static bool read_mapped(const std::string& path) {
    const UniqueFd fd = open_file(path, O_RDONLY);
    void* map = ::mmap(nullptr, 5000, PROT_READ, MAP_SHARED, fd.get(), 0);
    const bool good = map != MAP_FAILED && static_cast<const char*>(map)[4999] == 'x';
    if (map != MAP_FAILED) ::munmap(map, 5000);
    return good;
  }

  // The names of what now has another access time than at first, after all has been read in the mirror; `writes`: the
  // mirror lets files be opened for writing, which alone moves nothing.
  [[nodiscard]] std::vector<std::string> moved_by_reading(bool writes) {
    EXPECT_TRUE(in_child([&] {
      for (const auto& [name, read] : ways_to_read()) {
        if (name == "written" && !writes) continue;
        EXPECT_TRUE(read(mnt(name))) << name << " " << errno_name(errno);
      }
      EXPECT_TRUE(list_dir(mnt("dir")).empty());
      char target[10];
      EXPECT_EQ(::readlink(mnt("link").c_str(), target, sizeof target), 1);
    }));
    std::vector<std::string> moved;
    for (const std::string& name : list_dir(source())) {
      if (stat_of(source(name)).st_atim.tv_sec != 2000) moved.push_back(name);
    }
    return moved;
  }
};
INSTANTIATE_TEST_SUITE_P(Mount, AccessTimeTest, BothPassthroughs(), passthrough_name);

TEST_P(AccessTimeTest, MoveAsTheSourceHasIt) {
  mount();
  EXPECT_EQ(moved_by_reading(true), list_dir(source()));
}

TEST_P(AccessTimeTest, WithNoatimeNothingMovesThem) {
  mount({.options = {"noatime"}});
  EXPECT_EQ(moved_by_reading(true), std::vector<std::string>{});
}

// As on any file system that is mounted read-only.
TEST_P(AccessTimeTest, OfAReadOnlyMirrorNothingMovesThem) {
  mount({.options = {"ro"}});
  EXPECT_EQ(moved_by_reading(false), std::vector<std::string>{});
}

}  // namespace
}  // namespace flockfs::test
