// Names are bytes: each of those that Linux allows, alone and in names as long as they can be; and paths that are
// longer than any system call takes in one piece.

#include <fcntl.h>
#include <sys/file.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <functional>
#include <string>
#include <vector>

#include "harness/connection.h"
#include "harness/faults.h"
#include "harness/lockfile.h"
#include "harness/mirror_test.h"
#include "harness/program.h"

namespace flockfs::test {
namespace {

constexpr std::size_t kLongest = 255;

int error_of(long result) { return result == 0 ? 0 : errno; }

// All bytes that a name may have: neither the end of a string nor the separator.
std::string allowed_bytes() {
  std::string bytes;
  for (int byte = 1; byte < 256; ++byte) {
    if (byte != '/') bytes.push_back(static_cast<char>(byte));
  }
  return bytes;
}

class NamesTest : public MirrorTest {
 protected:
  // The file can be opened in the mirror and is locked then, exclusively; for children.
  void expect_locked_while_open(const std::string& name) const {
    UniqueFd fd = open_file(mnt(name), O_RDWR);
    EXPECT_EQ(source_lock(source(name)), LockSeen::kExclusive);
    fd.reset();
    EXPECT_TRUE(becomes_free(source(name)));
  }
};

TEST_F(NamesTest, AnyByteIsAName) {
  ASSERT_EQ(allowed_bytes().size(), 254u);
  // A dot alone is another name of the directory.
  std::string bytes = allowed_bytes();
  std::erase(bytes, '.');
  mount();
  EXPECT_TRUE(in_child([&] {
    for (std::size_t i = 0; i < bytes.size(); ++i) {
      const std::string name(1, bytes[i]);
      SCOPED_TRACE(::testing::PrintToString(name));
      write_file(i % 2 == 0 ? mnt(name) : source(name), name);  // made on the one side, read on the other
      EXPECT_EQ(read_file(i % 2 == 0 ? source(name) : mnt(name)), name);
      expect_locked_while_open(name);
    }
    const auto names = list_dir(mnt());
    EXPECT_EQ(names.size(), 253u);
    EXPECT_EQ(names, list_dir(source()));
    for (const std::string& name : names) EXPECT_EQ(error_of(::unlink(mnt(name).c_str())), 0) << name;
  }));
  EXPECT_TRUE(list_dir(source()).empty());
}

TEST_F(NamesTest, AnyByteIsPartOfALongName) {
  mount();
  EXPECT_TRUE(in_child([&] {
    write_file(mnt("f"), "contents");
    std::string last = "f";
    for (const char byte : allowed_bytes()) {
      const std::string name = std::string(100, byte) + "-" + std::string(kLongest - 101, byte);
      ASSERT_EQ(error_of(::rename(mnt(last).c_str(), mnt(name).c_str())), 0) << ::testing::PrintToString(byte);
      ASSERT_EQ(list_dir(source()), std::vector<std::string>{name});
      ASSERT_EQ(open_error(mnt(name), O_RDONLY), 0);
      last = name;
    }
    const std::string all = allowed_bytes() + "n";
    ASSERT_EQ(all.size(), kLongest);
    EXPECT_EQ(error_of(::rename(mnt(last).c_str(), mnt(all).c_str())), 0);
    EXPECT_EQ(list_dir(mnt()), std::vector<std::string>{all});
    expect_locked_while_open(all);
    EXPECT_EQ(error_of(::unlink(mnt(all).c_str())), 0);
  }));
  EXPECT_TRUE(list_dir(source()).empty());
}

// Everything that names something, by a name of this directory; 0 or an errno. Leaves nothing behind.
std::vector<int> use_everywhere(const std::string& dir, const std::string& name) {
  const std::string path = dir + "/" + name;
  const std::string other = dir + "/other";
  return {
      open_error(path, O_RDWR | O_CREAT | O_EXCL),
      open_error(path, O_RDONLY),
      error_of(::truncate(path.c_str(), 0)),
      error_of(::chmod(path.c_str(), 0600)),
      error_of(::setxattr(path.c_str(), "user.x", "1", 1, 0)),
      error_of(::rename(path.c_str(), other.c_str())),
      error_of(::link(other.c_str(), path.c_str())),
      error_of(::rename(other.c_str(), path.c_str())),  // two names of one file: nothing happens
      error_of(::unlink(path.c_str())),
      error_of(::renameat2(AT_FDCWD, other.c_str(), AT_FDCWD, path.c_str(), RENAME_NOREPLACE)),
      error_of(::unlink(path.c_str())),
      error_of(::mkdir(path.c_str(), 0755)),
      error_of(::rmdir(path.c_str())),
      error_of(::symlink("x", path.c_str())),
      error_of(::unlink(path.c_str())),
      error_of(::mkfifo(path.c_str(), 0600)),
      error_of(::access(path.c_str(), F_OK)),
      error_of(::unlink(path.c_str())),
      open_error(path, O_RDONLY),
  };
}

TEST_F(NamesTest, LongestNamesWorkEverywhereAndLongerOnesNowhere) {
  make_dir(source("native"));
  make_dir(source("mirrored"));
  mount();
  for (const std::size_t length : {kLongest, kLongest + 1}) {
    SCOPED_TRACE(length);
    const std::string name(length, '\xc4');
    EXPECT_TRUE(in_child([&] {
      const auto native = use_everywhere(source("native"), name);
      // A truncation finds the file in use until the lock of the open before it is given back.
      (void)eventually([&] { return use_everywhere(mnt("mirrored"), name) == native; });
      EXPECT_EQ(use_everywhere(mnt("mirrored"), name), native);
      const auto failed = std::count(native.begin(), native.end(), ENAMETOOLONG);
      EXPECT_EQ(failed, length > kLongest ? 16 : 0) << ::testing::PrintToString(native);
    }));
  }
}

// The name under which a new file waits for its lock must not be longer than its own.
TEST_F(NamesTest, LongestNamesAreCreatedWithoutTmpfileToo) {
  MirrorSetup setup;
  setup.program.before_exec = make_tmpfile_fail;
  mount(setup);
  const std::string name(kLongest, 'n');
  Opener creator(mnt(name), O_RDWR | O_CREAT | O_EXCL);
  ASSERT_TRUE(creator.opens());
  EXPECT_EQ(source_lock(source(name)), LockSeen::kExclusive);
  EXPECT_EQ(list_dir(source()), std::vector<std::string>{name});
  creator.close();
}

// A directory below the source whose path is longer than PATH_MAX, each of its components as long as can be and of
// bytes that take four times their room in the log.
class LongPathTest : public NamesTest {
 protected:
  static constexpr int kDepth = 20;

  void SetUp() override {
    write_file(source("top"), "");
    // A mount of it can be named from anywhere.
    near_ = folder("near");
    ASSERT_TRUE(in_child([&] {
      descend(source(), true);
      write_file("f", "contents");
      ASSERT_EQ(::mount(".", near_.c_str(), nullptr, MS_BIND, nullptr), 0) << errno_name(errno);
    }));
  }
  // std::filesystem, with which the test removes what is left, is not to be relied upon here.
  void TearDown() override {
    ::umount2(near_.c_str(), MNT_DETACH);
    const auto removed = run_program({"rm", "-rf", source(component())});
    EXPECT_EQ(removed.exit_code, 0) << removed;
  }

  static std::string component() { return std::string(kLongest, '\xff'); }
  // Makes it the working directory of the calling child.
  static void descend(const std::string& from, bool making = false) {
    ASSERT_EQ(::chdir(from.c_str()), 0);
    for (int depth = 0; depth < kDepth; ++depth) {
      if (making) {
        ASSERT_EQ(::mkdir(component().c_str(), 0755), 0);
      }
      ASSERT_EQ(::chdir(component().c_str()), 0) << depth << " " << errno_name(errno);
    }
  }
  // The same directory, in the source and by a short path.
  [[nodiscard]] std::string near(const std::string& name) const { return near_ + "/" + name; }
  [[nodiscard]] std::string logged_path(const std::string& name) const {
    std::string path = source();
    for (int depth = 0; depth < kDepth; ++depth) path += "/" + component();
    return path + "/" + name;
  }
  [[nodiscard]] Opener deep_opener(const std::string& name, int flags) const {
    return Opener([=, this] {
      descend(mnt());
      return ::open(name.c_str(), flags | O_CLOEXEC, 0644);
    });
  }

 private:
  std::string near_;
};

TEST_F(LongPathTest, EverythingWorksBelowIt) {
  mount();
  EXPECT_TRUE(in_child([&] {
    descend(mnt());
    EXPECT_EQ(read_file("f"), "contents");
    write_file("new", "text");
    EXPECT_EQ(read_file(near("new")), "text");
    EXPECT_EQ(list_dir("."), (std::vector<std::string>{"f", "new"}));
    EXPECT_EQ(error_of(::rename("new", component().c_str())), 0);
    EXPECT_EQ(error_of(::link(component().c_str(), "linked")), 0);
    EXPECT_EQ(error_of(::mkdir("d", 0755)), 0);
    EXPECT_EQ(error_of(::rename("linked", "d/moved")), 0);
    const auto native = use_everywhere(near("d"), "any");
    (void)eventually([&] { return use_everywhere("d", "any") == native; });
    EXPECT_EQ(use_everywhere("d", "any"), native);
    EXPECT_EQ(stat_of("f").st_ino, stat_of(near("f")).st_ino);
    EXPECT_EQ(error_of(::unlink(component().c_str())), 0);
    EXPECT_EQ(read_file("d/moved"), "text");
  }));
  // Tools that change directories as they go need no path either.
  const auto removed = run_program({"rm", "-r", mnt(component())});
  EXPECT_EQ(removed.exit_code, 0) << removed;
  EXPECT_EQ(list_dir(source()), std::vector<std::string>{"top"});
}

TEST_F(LongPathTest, OpenWaitsForItsLockAndTheLogHasTheWholePath) {
  mount();
  ForeignLock foreign(near("f"), LOCK_EX);
  Opener opener = deep_opener("f", O_RDWR);
  ASSERT_TRUE(mirror().waits(opener.pid()));
  EXPECT_TRUE(opener.is_waiting());
  const auto line = log().wait_for({.event = "wait", .pid = opener.pid()});
  ASSERT_TRUE(line);
  EXPECT_EQ(line->get("path"), logged_path("f"));
  EXPECT_EQ(line->get("mode"), "exclusive");
  foreign.release();
  ASSERT_TRUE(opener.opens());
  EXPECT_EQ(source_lock(near("f")), LockSeen::kExclusive);
  opener.close();
  EXPECT_TRUE(becomes_free(near("f")));
  EXPECT_TRUE(log().wait_for({.event = "unlock", .path = logged_path("f")}));
}

TEST_F(LongPathTest, WaitThereEndsWithItsProcess) {
  mount();
  ForeignLock foreign(near("f"), LOCK_SH);
  Opener opener = deep_opener("f", O_RDWR);
  ASSERT_TRUE(mirror().waits(opener.pid()));
  opener.child().signal(SIGKILL);
  EXPECT_TRUE(opener.child().killed_by(SIGKILL));
  EXPECT_TRUE(log().wait_for({.event = "interrupted", .path = logged_path("f")}));
  foreign.release();
  EXPECT_TRUE(becomes_free(near("f")));
  EXPECT_TRUE(eventually([&] { return requests_waiting(mirror().connection()) == 0; }));
}

// What excludes it is named by a path that can still be given.
TEST_F(LongPathTest, FilterKnowsWhatLiesThere) {
  std::string excluded = component();
  for (int depth = 1; depth < 10; ++depth) excluded += "/" + component();
  MirrorSetup setup;
  setup.arguments = {"--exclude", excluded};
  mount(setup);
  Opener passed = deep_opener("f", O_RDWR);
  ASSERT_TRUE(passed.opens());
  EXPECT_EQ(source_lock(near("f")), LockSeen::kFree);
  EXPECT_TRUE(log().wait_for({.event = "pass", .path = logged_path("f"), .reason = "exclude"}));
  passed.close();
  Opener locked(mnt("top"), O_RDWR);
  ASSERT_TRUE(locked.opens());
  EXPECT_EQ(source_lock(source("top")), LockSeen::kExclusive);
  locked.close();
}

// Where a lock file is to be, is written down before it is made, and that has a longest length: whoever would write
// there is refused, and leaves nothing. Readers need no lock file.
TEST_F(LongPathTest, LockFilesAreRefusedThere) {
  cover_record_directory();
  mount({.options = {"lock=flock+lockfile"}}).expect_error("op=lockfile");
  Opener writer = deep_opener("f", O_RDWR);
  EXPECT_TRUE(writer.fails_with(ENAMETOOLONG));
  Opener creator = deep_opener("new", O_RDWR | O_CREAT);
  EXPECT_TRUE(creator.fails_with(ENAMETOOLONG));
  EXPECT_EQ(list_dir(near("")), std::vector<std::string>{"f"});
  EXPECT_TRUE(becomes_free(near("f")));
  Opener reader = deep_opener("f", O_RDONLY);
  ASSERT_TRUE(reader.opens());
  EXPECT_EQ(source_lock(near("f")), LockSeen::kShared);
  reader.close();
}

}  // namespace
}  // namespace flockfs::test
