// A source that fails while it is used: what it answers reaches the caller, locks are given back, everything else goes
// on, and the mirror can be unmounted. (A source without room: full_source_test.cc.)

#include <fcntl.h>
#include <linux/fs.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <functional>
#include <string>
#include <vector>

#include "harness/connection.h"
#include "harness/failing_fs.h"
#include "harness/mirror_test.h"
#include "harness/program.h"

namespace flockfs::test {
namespace {

int error_of(long result) { return result >= 0 ? 0 : errno; }

// A FUSE server, whose answers are as it likes. There the kernel does not pass anything through.
class FailingServerTest : public MirrorTest {
 protected:
  FailingServerTest() : server_(source()) {
    mount({.options = {"attr_timeout=0", "entry_timeout=0"}});
    mirror().expect_error(source("f"));
  }
  [[nodiscard]] FailingFs& server() { return server_; }

  // The one file and the other, each as it has to be when nothing fails.
  void expect_well(const std::string& name) {
    EXPECT_TRUE(in_child([&] {
      EXPECT_EQ(read_file(mnt(name)).size(), std::size_t{kFailingSize}) << name;
      EXPECT_EQ(error_of(::chmod(mnt(name).c_str(), 0600)), 0) << name;
      EXPECT_EQ(list_dir(mnt()), (std::vector<std::string>{"f", "g"}));
    }));
    Opener opener(mnt(name), O_RDWR);
    ASSERT_TRUE(opener.opens());
    EXPECT_EQ(source_lock(source(name)), LockSeen::kExclusive);
    opener.close();
    EXPECT_TRUE(becomes_free(source(name)));
  }

 private:
  FailingFs server_;
};

TEST_F(FailingServerTest, EachCallGetsWhatTheSourceAnswers) {
  using Call = std::function<int(const std::string& path)>;
  const auto open = [](int flags) { return [=](const std::string& path) { return open_error(path, flags); }; };
  const std::vector<std::pair<FailingFs::Call, Call>> calls{
      {FailingFs::kLook, [](const std::string& path) { return exists(path) ? 0 : errno; }},
      {FailingFs::kLook, open(O_RDONLY)},
      {FailingFs::kOpen, open(O_RDONLY)},
      {FailingFs::kOpen, open(O_RDWR)},
      {FailingFs::kWrite, open(O_WRONLY | O_TRUNC)},
      {FailingFs::kWrite, [](const std::string& path) { return error_of(::truncate(path.c_str(), 1)); }},
      {FailingFs::kChange, [](const std::string& path) { return error_of(::chmod(path.c_str(), 0600)); }},
      {FailingFs::kChange, [](const std::string& path) { return error_of(::unlink(path.c_str())); }},
      {FailingFs::kChange,
       [](const std::string& path) { return error_of(::rename(path.c_str(), (path + "2").c_str())); }},
      {FailingFs::kChange,
       [](const std::string& path) { return error_of(::setxattr(path.c_str(), "user.x", "1", 1, 0)); }},
      {FailingFs::kChange,
       [](const std::string& path) { return error_of(::utimensat(AT_FDCWD, path.c_str(), nullptr, 0)); }},
  };
  for (const int error : {EIO, EDQUOT}) {
    for (std::size_t i = 0; i < calls.size(); ++i) {
      SCOPED_TRACE(std::to_string(i) + " " + errno_name(error));
      server().fail(calls[i].first, error);
      EXPECT_TRUE(in_child([&] {
        EXPECT_EQ(errno_name(calls[i].second(mnt("f"))), errno_name(error));
        EXPECT_EQ(calls[i].first == FailingFs::kChange ? 0 : calls[i].second(mnt("g")), 0);
      }));
      server().fail(calls[i].first, 0);
      EXPECT_TRUE(becomes_free(source("f")));
    }
  }
  expect_well("f");
  expect_well("g");
}

TEST_F(FailingServerTest, FileThatIsOpenKeepsItsLockThroughErrors) {
  Child client([&](Peer& test) {
    const UniqueFd fd = open_file(mnt("f"), O_RDWR);
    char bytes[100];
    EXPECT_EQ(::pread(fd.get(), bytes, sizeof bytes, 0), 100);
    test.say("open");
    test.await("use");
    EXPECT_EQ(errno_name(error_of(::pread(fd.get(), bytes, sizeof bytes, kFailingSize - 200))), "EIO");
    EXPECT_EQ(errno_name(error_of(::pwrite(fd.get(), bytes, sizeof bytes, 0))), "EIO");
    EXPECT_EQ(errno_name(error_of(::ftruncate(fd.get(), 10))), "EIO");
    EXPECT_EQ(errno_name(error_of(::fsync(fd.get()))), "EIO");
    test.say("used");
    test.await("again");
    EXPECT_EQ(::pread(fd.get(), bytes, sizeof bytes, kFailingSize - 200), 100);
    EXPECT_EQ(::pwrite(fd.get(), bytes, sizeof bytes, 0), 100);
    EXPECT_EQ(::fsync(fd.get()), 0);
  });
  ASSERT_TRUE(client.says("open"));
  for (const auto call : {FailingFs::kRead, FailingFs::kWrite, FailingFs::kSync}) server().fail(call, EIO);
  client.say("use");
  ASSERT_TRUE(client.says("used"));
  EXPECT_EQ(source_lock(source("f")), LockSeen::kExclusive);
  expect_well("g");
  for (const auto call : {FailingFs::kRead, FailingFs::kWrite, FailingFs::kSync}) server().fail(call, 0);
  client.say("again");
  EXPECT_TRUE(client.ends_well());
  EXPECT_TRUE(becomes_free(source("f")));
  expect_well("f");
}

// A wait for the lock ends in whatever the source says then.
TEST_F(FailingServerTest, OpenThatHasWaitedGetsTheErrorOfItsTime) {
  ForeignLock foreign(source("f"), LOCK_EX);
  Opener opener(mnt("f"), O_WRONLY | O_TRUNC);
  ASSERT_TRUE(mirror().waits(opener.pid()));
  server().fail(FailingFs::kWrite, EIO);
  foreign.release();
  EXPECT_TRUE(opener.fails_with(EIO));
  EXPECT_TRUE(becomes_free(source("f")));
  server().fail(FailingFs::kWrite, 0);
  expect_well("f");
}

TEST_F(FailingServerTest, DeadServerIsAnErrorOfItsFilesOnly) {
  mirror().expect_error(source());
  ForeignLock foreign(source("f"), LOCK_EX);
  Opener waiting(mnt("f"), O_RDWR);
  ASSERT_TRUE(mirror().waits(waiting.pid()));
  Child client([&](Peer& test) {
    const UniqueFd fd = open_file(mnt("g"), O_RDWR);
    test.say("open");
    test.await("use");
    char byte = 'y';
    EXPECT_EQ(errno_name(error_of(::pwrite(fd.get(), &byte, 1, 0))), "ENOTCONN");
    EXPECT_EQ(errno_name(open_error(mnt("g"), O_RDONLY)), "ENOTCONN");
    EXPECT_EQ(errno_name(error_of(::truncate(mnt("g").c_str(), 1))), "ENOTCONN");
    EXPECT_EQ(errno_name(error_of(::mkdir(mnt("new").c_str(), 0755))), "ENOTCONN");
  });
  ASSERT_TRUE(client.says("open"));
  server().die();
  client.say("use");
  EXPECT_TRUE(client.ends_well());
  EXPECT_TRUE(mirror().daemon_runs());
  foreign.release();
  EXPECT_TRUE(waiting.fails_with(ENOTCONN));
}

// A small ext4 file system of its own, in an image.
class FailingDiskTest : public PassthroughTest {
 protected:
  void make_disk(const std::string& image, const std::string& options = "loop") {
    image_ = image;
    const auto made = run_program({"mkfs.ext4", "-q", "-m", "0", "-O", "^has_journal", image, "8M"});
    ASSERT_EQ(made.exit_code, 0) << made;
    mount_disk(options);
  }
  void mount_disk(const std::string& options = "loop") {
    const auto mounted = run_program({"mount", "-o", options, image_, source()});
    if (mounted.exit_code != 0) GTEST_SKIP() << "no loop device here: " << mounted;
  }
  [[nodiscard]] const std::string& image() const { return image_; }

  // All that writes, on a name of this directory: 0 or an errno of each.
  [[nodiscard]] static std::vector<std::string> try_to_write(const std::string& dir) {
    const std::string path = dir + "/f";
    return {
        errno_name(open_error(path, O_RDWR)),
        errno_name(open_error(path, O_WRONLY | O_TRUNC)),
        errno_name(open_error(dir + "/new", O_RDWR | O_CREAT)),
        errno_name(open_error(dir, O_RDWR | O_TMPFILE)),
        errno_name(error_of(::mkdir((dir + "/new").c_str(), 0755))),
        errno_name(error_of(::chmod(path.c_str(), 0600))),
        errno_name(error_of(::truncate(path.c_str(), 1))),
        errno_name(error_of(::unlink(path.c_str()))),
    };
  }
  void expect_readable(const std::string& name) {
    EXPECT_TRUE(in_child([&] { EXPECT_EQ(read_file(mnt(name)), read_file(source(name))); }));
    EXPECT_TRUE(becomes_free(source(name)));
  }

 private:
  std::string image_;
};
INSTANTIATE_TEST_SUITE_P(Mount, FailingDiskTest, BothPassthroughs(), passthrough_name);

TEST_P(FailingDiskTest, SourceThatIsMadeReadOnlyIsSoInTheMirrorAndBackAgain) {
  ASSERT_NO_FATAL_FAILURE(make_disk(tree() / "image"));
  if (IsSkipped()) return;
  write_file(source("f"), "contents");
  mount();
  const auto remount = [&](const char* how) { return run_program({"mount", "-o", how, source()}).exit_code; };
  Opener writer(mnt("f"), O_RDWR);
  ASSERT_TRUE(writer.opens());
  EXPECT_NE(remount("remount,ro"), 0) << "somebody writes";
  writer.close();
  Opener reader(mnt("f"), O_RDONLY);
  ASSERT_TRUE(reader.opens());
  EXPECT_TRUE(eventually([&] { return remount("remount,ro") == 0; })) << "the mirror keeps something open for writing";
  mirror().expect_error("Read-only file system");
  const std::vector<std::string> refused(8, "EROFS");
  EXPECT_TRUE(in_child([&] {
    EXPECT_EQ(try_to_write(source()), refused);
    EXPECT_EQ(try_to_write(mnt()), refused);
  }));
  EXPECT_EQ(reader.contents(), "contents");
  reader.close();
  expect_readable("f");
  ASSERT_EQ(remount("remount,rw"), 0);
  EXPECT_TRUE(in_child([&] { write_file(mnt("f"), "new"); }));
  EXPECT_EQ(read_file(source("f")), "new");
}

// What ext4 does when it finds its own structures broken, with a writer in the middle of its work.
TEST_P(FailingDiskTest, ErrorOfTheFileSystemStopsWritersAndNobodyElse) {
  ASSERT_NO_FATAL_FAILURE(make_disk(tree() / "image", "loop,errors=remount-ro"));
  if (IsSkipped()) return;
  write_file(source("f"), "contents");
  const std::string device = find_mount(source())->source;
  const std::string trigger = "/sys/fs/ext4" + device.substr(device.rfind('/')) + "/trigger_fs_error";
  if (::access(trigger.c_str(), W_OK) != 0) GTEST_SKIP() << "no " << trigger;
  const UniqueFd native = open_file(source("f"), O_RDWR);
  mount();
  mirror().expect_error("Read-only file system");
  Child writer([&](Peer& test) {
    const UniqueFd fd = open_file(mnt("f"), O_RDWR);
    EXPECT_EQ(::pwrite(fd.get(), "CONT", 4, 0), 4);
    test.say("open");
    test.await("write");
    test.say(errno_name(error_of(::pwrite(fd.get(), "x", 1, 0))));
    EXPECT_EQ(read_all(fd.get()), "CONTents");
    test.await("close");
  });
  ASSERT_TRUE(writer.says("open"));
  {
    const UniqueFd fd = open_file(trigger, O_WRONLY);
    ASSERT_EQ(::write(fd.get(), "test", 4), 4);
  }
  const std::string natively = errno_name(error_of(::pwrite(native.get(), "x", 1, 0)));
  EXPECT_EQ(natively, "EROFS");
  writer.say("write");
  EXPECT_TRUE(writer.says(natively));
  EXPECT_EQ(source_lock(source("f")), LockSeen::kExclusive);
  writer.say("close");
  EXPECT_TRUE(writer.ends_well());
  EXPECT_TRUE(becomes_free(source("f")));
  EXPECT_TRUE(in_child([&] { EXPECT_EQ(try_to_write(mnt()), try_to_write(source())); }));
  expect_readable("f");
}

// Where on its device the block of the file is that holds this byte.
off_t place_of(const std::string& path, off_t offset) {
  const UniqueFd fd = open_file(path, O_RDONLY);
  int size = 0;
  if (::ioctl(fd.get(), FIGETBSZ, &size) != 0 || size == 0) throw std::runtime_error("FIGETBSZ");
  int block = static_cast<int>(offset / size);
  if (::ioctl(fd.get(), FIBMAP, &block) != 0) throw std::runtime_error("FIBMAP");
  return off_t{block} * size;
}

TEST_P(FailingDiskTest, BlocksThatCannotBeReadAreAnErrorOfThatReadOnly) {
  constexpr off_t kHalf = 1 << 20;
  ASSERT_NO_FATAL_FAILURE(make_disk(tree() / "image"));
  if (IsSkipped()) return;
  for (const std::string name : {"one", "other"}) write_file(source(name), std::string(2 * kHalf, 'x'));
  ASSERT_EQ(::umount2(source().c_str(), 0), 0);  // so nothing is kept of them in memory
  ASSERT_NO_FATAL_FAILURE(mount_disk());
  // The image ends in the middle of the one that lies behind the other.
  const bool first = place_of(source("one"), 0) < place_of(source("other"), 0);
  const std::string whole = first ? "one" : "other";
  const std::string cut = first ? "other" : "one";
  const off_t end = place_of(source(cut), kHalf);
  ASSERT_LT(place_of(source(whole), 2 * kHalf - 1), end);
  ASSERT_LT(place_of(source(cut), 0), end);
  ASSERT_EQ(::truncate(image().c_str(), end), 0);
  mount();
  Child reader([&](Peer& test) {
    const UniqueFd fd = open_file(mnt(cut), O_RDONLY);
    std::string bytes(4096, '\0');
    EXPECT_EQ(::pread(fd.get(), bytes.data(), bytes.size(), 0), 4096);
    EXPECT_EQ(bytes, std::string(4096, 'x'));
    test.say(errno_name(error_of(::pread(fd.get(), bytes.data(), bytes.size(), 2 * kHalf - 4096))));
    test.await("close");
  });
  EXPECT_TRUE(reader.says("EIO"));
  EXPECT_EQ(source_lock(source(cut)), LockSeen::kShared);
  reader.say("close");
  EXPECT_TRUE(reader.ends_well());
  EXPECT_TRUE(becomes_free(source(cut)));
  expect_readable(whole);
}

// The disk is thinner than it says: what is written finds room in memory, but then none on the disk.
TEST_P(FailingDiskTest, BlocksThatCannotBeWrittenAreAnErrorOfFsync) {
  const std::string room = folder("room");
  ASSERT_EQ(::mount("tmpfs", room.c_str(), "tmpfs", 0, "size=2m"), 0);
  ASSERT_NO_FATAL_FAILURE(make_disk(room + "/image"));
  if (IsSkipped()) return;
  for (const std::string name : {"native", "mirrored", "other"}) write_file(source(name), "contents");
  ASSERT_EQ(run_program({"sync", "-f", source("other")}).exit_code, 0);
  ASSERT_EQ(run_program({"sh", "-c", "cat /dev/zero >\"$0\"", room + "/filler"}).exit_code, 1);
  const auto write_and_sync = [](const std::string& path) {
    const UniqueFd fd = open_file(path, O_RDWR);
    const std::string bytes(2 << 20, 'x');  // more than there can be room for anywhere
    EXPECT_EQ(::write(fd.get(), bytes.data(), bytes.size()), 2 << 20) << errno_name(errno);
    return errno_name(error_of(::fsync(fd.get())));
  };
  mount();
  EXPECT_TRUE(in_child([&] {
    const std::string natively = write_and_sync(source("native"));
    EXPECT_NE(natively, "0");
    EXPECT_EQ(write_and_sync(mnt("mirrored")), natively);
  }));
  EXPECT_TRUE(becomes_free(source("mirrored")));
  expect_readable("other");
}

}  // namespace
}  // namespace flockfs::test
