// What the kernel remembers of the mirror (here: for an hour) against what has happened to the source meanwhile. Every
// call has to end as it would on the source itself, never with ESTALE.

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <cerrno>
#include <functional>
#include <string>
#include <vector>

#include "harness/mirror_test.h"

namespace flockfs::test {
namespace {

struct Call {
  const char* name;
  std::function<int(const std::string& dir)> run;  // 0 or -1 and errno
};

// Each on "f" or a new name in a directory.
const std::vector<Call>& calls() {
  static const auto opening = [](int flags) {
    return [=](const std::string& dir) { return open_error(dir + "/f", flags) == 0 ? 0 : -1; };
  };
  static const std::vector<Call> list{
      {"open_read", opening(O_RDONLY)},
      {"open_write", opening(O_RDWR)},
      {"open_trunc", opening(O_WRONLY | O_TRUNC)},
      {"getxattr",
       [](const std::string& dir) {
         const ssize_t size = ::getxattr((dir + "/f").c_str(), "user.x", nullptr, 0);
         return size >= 0 || errno == ENODATA ? 0 : -1;
       }},
      {"setxattr", [](const std::string& dir) { return ::setxattr((dir + "/f").c_str(), "user.y", "v", 1, 0); }},
      {"chmod", [](const std::string& dir) { return ::chmod((dir + "/f").c_str(), 0600); }},
      {"utimes", [](const std::string& dir) { return ::utimensat(AT_FDCWD, (dir + "/f").c_str(), nullptr, 0); }},
      {"truncate", [](const std::string& dir) { return ::truncate((dir + "/f").c_str(), 2); }},
      {"link", [](const std::string& dir) { return ::link((dir + "/f").c_str(), (dir + "/link").c_str()); }},
      {"rename", [](const std::string& dir) { return ::rename((dir + "/f").c_str(), (dir + "/renamed").c_str()); }},
      {"unlink", [](const std::string& dir) { return ::unlink((dir + "/f").c_str()); }},
  };
  return list;
}

const std::vector<Call>& making_calls() {
  static const std::vector<Call> list{
      {"create", [](const std::string& dir) { return open_error(dir + "/new", O_WRONLY | O_CREAT) == 0 ? 0 : -1; }},
      {"create_excl",
       [](const std::string& dir) { return open_error(dir + "/new", O_WRONLY | O_CREAT | O_EXCL) == 0 ? 0 : -1; }},
      {"tmpfile", [](const std::string& dir) { return open_error(dir, O_WRONLY | O_TMPFILE) == 0 ? 0 : -1; }},
      {"mkdir", [](const std::string& dir) { return ::mkdir((dir + "/new").c_str(), 0755); }},
      {"mkfifo", [](const std::string& dir) { return ::mkfifo((dir + "/new").c_str(), 0644); }},
      {"symlink", [](const std::string& dir) { return ::symlink("x", (dir + "/new").c_str()); }},
      {"list", [](const std::string& dir) { return open_error(dir, O_RDONLY | O_DIRECTORY) == 0 ? 0 : -1; }},
      {"rmdir", [](const std::string& dir) { return ::rmdir(dir.c_str()); }},
  };
  return list;
}

class StaleTest : public PassthroughTest {
 protected:
  // Lays out "native" and "mirrored" alike, has the mirror's client look at all of the latter, lets `change` happen to
  // both in the source, and compares how the call ends on the one directly and on the other through the mirror.
  void compare(const std::vector<Call>& list, const std::function<void(const std::string& dir)>& change) {
    std::vector<std::string> twins{"native", "mirrored"};
    for (const Call& call : list) {
      for (const std::string& twin : twins) {
        const std::string dir = source(twin + "-" + call.name);
        make_dir(dir);
        write_file(dir + "/f", "contents");
      }
    }
    mount({.options = {"attr_timeout=3600", "entry_timeout=3600"}});
    for (const Call& call : list) {
      SCOPED_TRACE(call.name);
      const std::string name = std::string("-") + call.name;
      EXPECT_TRUE(in_child([&] {
        EXPECT_EQ(read_file(mnt("mirrored" + name + "/f")), "contents");
        EXPECT_EQ(list_dir(mnt("mirrored" + name)).size(), 1u);
        for (const std::string& twin : twins) change(source(twin + name));
        const int native = call.run(source("native" + name)) == 0 ? 0 : errno;
        const int mirrored = call.run(mnt("mirrored" + name)) == 0 ? 0 : errno;
        EXPECT_EQ(errno_name(mirrored), errno_name(native));
        if (native == 0 && exists(source("native" + name + "/f"))) {
          const struct stat one = stat_of(source("native" + name + "/f"));
          const struct stat other = stat_of(source("mirrored" + name + "/f"));
          EXPECT_EQ(other.st_mode, one.st_mode) << "the other file was changed";
          EXPECT_EQ(other.st_size, one.st_size) << "the other file was changed";
          EXPECT_EQ(other.st_nlink, one.st_nlink) << "the other file was changed";
        }
      }));
    }
  }
};
INSTANTIATE_TEST_SUITE_P(Mount, StaleTest, BothPassthroughs(), passthrough_name);

TEST_P(StaleTest, FileRemoved) {
  compare(calls(), [](const std::string& dir) { ASSERT_EQ(::unlink((dir + "/f").c_str()), 0); });
}

TEST_P(StaleTest, FileReplaced) {
  compare(calls(), [](const std::string& dir) {
    write_file(dir + "/other", "the other");
    ASSERT_EQ(::rename((dir + "/other").c_str(), (dir + "/f").c_str()), 0);
  });
}

// As above, but the file that lost its name lives on, since somebody still has it open.
TEST_P(StaleTest, OpenFileReplaced) {
  std::vector<UniqueFd> open;
  compare(calls(), [&](const std::string& dir) {
    open.push_back(open_file(dir + "/f", O_RDONLY));
    write_file(dir + "/other", "the other");
    ASSERT_EQ(::rename((dir + "/other").c_str(), (dir + "/f").c_str()), 0);
  });
}

TEST_P(StaleTest, FileReplacedByADirectory) {
  compare(calls(), [](const std::string& dir) {
    ASSERT_EQ(::unlink((dir + "/f").c_str()), 0);
    make_dir(dir + "/f");
  });
}

TEST_P(StaleTest, DirectoryRemoved) {
  std::vector<Call> list = making_calls();
  // For these the kernel does not look again when the last component is what turns out to be stale.
  std::erase_if(list, [](const Call& call) {
    return std::string(call.name) == "mkdir" || std::string(call.name) == "mkfifo" ||
           std::string(call.name) == "symlink";
  });
  compare(list, [](const std::string& dir) {
    ASSERT_EQ(::unlink((dir + "/f").c_str()), 0);
    ASSERT_EQ(::rmdir(dir.c_str()), 0);
  });
}

TEST_P(StaleTest, DirectoryEmptied) {
  compare(making_calls(), [](const std::string& dir) { ASSERT_EQ(::unlink((dir + "/f").c_str()), 0); });
}

TEST_P(StaleTest, NewNameTakenMeanwhile) {
  compare(making_calls(), [](const std::string& dir) { write_file(dir + "/new", "taken"); });
}

}  // namespace
}  // namespace flockfs::test
