// Issue 6, point 1: COMMAND never sees the source without locks, wherever it is started.

#include <fcntl.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <sstream>
#include <string>
#include <vector>

#include "run_test.h"

namespace flockfs::test {
namespace {

class RunPlaceTest : public RunTest {
 protected:
  // The device under which the source itself shows its files.
  [[nodiscard]] std::string plain_device() const { return std::to_string(stat_of(source()).st_dev); }

  [[nodiscard]] static ProgramSetup at(const std::string& directory) {
    ProgramSetup setup;
    setup.directory = directory;
    return setup;
  }
};

TEST_F(RunPlaceTest, WorkingDirectoryInTheSourceIsEnteredAnew) {
  make_dir(source("d"));
  write_file(source("d/g"), "more");
  for (const std::string& directory : {source(), source("d")}) {
    SCOPED_TRACE(directory);
    const auto devices = run({source(), "--", "stat", "-c", "%d", "--", ".", source()}, at(directory));
    ASSERT_EQ(devices.exit_code, 0) << devices;
    const std::string first = devices.out.substr(0, devices.out.find('\n'));
    EXPECT_EQ(devices.out, first + "\n" + first + "\n");
    EXPECT_NE(first, plain_device());
  }
}

TEST_F(RunPlaceTest, FilesOfTheWorkingDirectoryAreLocked) {
  const ForeignLock foreign(source("f"), LOCK_EX);
  const auto result = run({"--timeout=0", ".", "--", "cat", "f"}, at(source()));
  EXPECT_NE(result.exit_code, 0) << result;
  EXPECT_EQ(result.out, "");
}

TEST_F(RunPlaceTest, RootItselfCanBeTheSource) {
  const ForeignLock foreign(source("f"), LOCK_EX);
  write_file(source("g"), "free");
  const std::vector<std::string> options{"--timeout=0", "/", "--", "sh", "-c"};
  const auto in_shell = [&](const std::string& script, const std::string& directory) {
    auto arguments = options;
    arguments.push_back(script);
    return run(arguments, at(directory));
  };
  for (const std::string& directory : {source(), std::string("/"), std::string("/proc")}) {
    SCOPED_TRACE(directory);
    const auto refused = in_shell("cat $S/f", directory);
    EXPECT_NE(refused.exit_code, 0) << refused;
    EXPECT_EQ(refused.out, "") << refused;
    EXPECT_EQ(in_shell("cat /.././$S/g; pwd", directory).out, "free" + directory + "\n");
  }
  const auto relative = in_shell("cat f", source());
  EXPECT_NE(relative.exit_code, 0) << relative;
  // What programs need to live is there.
  const auto alive = in_shell("echo x >/dev/null && test -d /proc/$$/fd && test -d /sys/kernel && echo alive", "/");
  EXPECT_EQ(alive.out, "alive\n") << alive;
}

TEST_F(RunPlaceTest, EverySourceHasItsMirrorAndNestedOnesShareOne) {
  const std::string other = folder("other");
  write_file(other + "/g", "of the other");
  make_dir(source("d"));
  write_file(source("d/h"), "inner");
  for (const std::vector<std::string>& order :
       {std::vector{source(), source("d"), other}, std::vector{source("d"), other, source(), source()}}) {
    auto arguments = order;
    arguments.insert(arguments.end(), {"--", "sh", "-c",
                                       "exec 3<$S/f 4<$S/d/h 5<$T/other/g; stat -c %d $S $S/d $T/other; touch $T/open; "
                                       "read line <$T/fifo"});
    ASSERT_EQ(::mkfifo((tree() / "fifo").c_str(), 0600), 0);
    const auto program = start(arguments);
    ASSERT_TRUE(comes("open")) << program->err();
    EXPECT_EQ(mirrors_of(program->pid()).size(), 2u);
    for (const std::string& path : {source("f"), source("d/h"), other + "/g"}) {
      EXPECT_EQ(source_lock(path), LockSeen::kShared) << path;
    }
    write_file(tree() / "fifo", "go\n");
    EXPECT_EQ(program->exit_code(), 0) << program->err();
    std::istringstream lines(program->out());
    std::vector<std::string> devices;
    for (std::string line; std::getline(lines, line);) devices.push_back(line);
    ASSERT_EQ(devices.size(), 3u) << program->out();
    EXPECT_EQ(devices[0], devices[1]);
    EXPECT_NE(devices[0], devices[2]);
    ::unlink((tree() / "fifo").c_str());
    ::unlink((tree() / "open").c_str());
  }
}

TEST_F(RunPlaceTest, SourcesAreFoundHoweverTheyAreNamed) {
  const std::string odd = folder("an odd\nname, 'quoted' \\ \xff");
  write_file(odd + "/f", "odd");
  ASSERT_EQ(::symlink(source().c_str(), (tree() / "link").c_str()), 0);
  const ForeignLock one(source("f"), LOCK_EX);
  const ForeignLock two(odd + "/f", LOCK_EX);
  const std::vector<std::pair<std::string, std::string>> cases = {{"source", "source/f"},
                                                                  {"./source/../source/", "source/f"},
                                                                  {"link", "link/f"},
                                                                  {"link", "source/f"},
                                                                  {odd, odd + "/f"}};
  for (const auto& [name, file] : cases) {
    SCOPED_TRACE(name);
    const auto refused = run({"--timeout=0", name, "--", "cat", file}, at(tree().path()));
    EXPECT_NE(refused.exit_code, 0) << refused;
    EXPECT_EQ(refused.out, "") << refused;
    EXPECT_NE(refused.err.find("1 refused"), std::string::npos) << refused;
  }
}

TEST_F(RunPlaceTest, WorkingDirectoryThatIsGoneIsRefused) {
  make_dir(source("gone"));
  ProgramSetup setup = at(source("gone"));
  setup.before_exec = [this] { ASSERT_EQ(::rmdir(source("gone").c_str()), 0); };
  const auto result = run({source(), "--", "echo", "ran"}, setup);
  EXPECT_EQ(result.exit_code, 125) << result;
  EXPECT_EQ(result.out, "");
  EXPECT_NE(result.err.find("working directory"), std::string::npos) << result;
}

TEST_F(RunPlaceTest, DescriptorsPastTheMirrorAreRefused) {
  make_dir(source("d"));
  write_file(tree() / "beside", "beside");
  const auto with_descriptor = [&](const std::string& path, int flags, int number) {
    ProgramSetup setup;
    setup.before_exec = [=] {
      const int fd = ::open(path.c_str(), flags);
      ASSERT_GE(fd, 0);
      ASSERT_EQ(::dup2(fd, number), number);
      if (fd != number) ::close(fd);
    };
    return run({source(), "--", "sh", "-c", "echo ran; cat <&7"}, setup);
  };
  for (const auto& [path, flags] : std::vector<std::pair<std::string, int>>{
           {source("f"), O_RDONLY}, {source("d"), O_RDONLY}, {source(), O_PATH}, {tree().path(), O_RDONLY}}) {
    SCOPED_TRACE(path);
    const auto refused = with_descriptor(path, flags, 7);
    EXPECT_EQ(refused.exit_code, 125) << refused;
    EXPECT_EQ(refused.out, "");
    EXPECT_NE(refused.err.find("descriptor 7 is open on '" + path + "'"), std::string::npos) << refused;
  }
  EXPECT_EQ(with_descriptor(tree() / "beside", O_RDONLY, 7).out, "ran\nbeside");
  const auto warned = with_descriptor(source("f"), O_RDONLY, 0);
  EXPECT_NE(warned.err.find("warning: standard input is '" + source("f") + "'"), std::string::npos) << warned;
  EXPECT_EQ(warned.out, "ran\n");
}

TEST_F(RunPlaceTest, NothingWithoutANameCountsAsBelowRoot) {
  ProgramSetup setup;
  setup.before_exec = [] { ASSERT_EQ(::dup2(::memfd_create("x", 0), 7), 7); };
  const auto result = run({"/", "--", "echo", "ran", source()}, setup);
  EXPECT_EQ(result.out, "ran " + source() + "\n") << result;
}

// There nothing keeps the mirrors from being seen outside.
TEST_F(RunPlaceTest, RootDirectoryThatIsNoMountPointIsRefused) {
  const std::string root = folder("root");
  for (const auto& entry : std::filesystem::directory_iterator("/")) {
    const std::string there = root + entry.path().string();
    if (entry.is_symlink()) {
      std::filesystem::copy_symlink(entry, there);
    } else if (entry.is_directory()) {
      make_dir(there);
      ASSERT_EQ(::mount(entry.path().c_str(), there.c_str(), nullptr, MS_BIND | MS_REC, nullptr), 0) << there;
    }
  }
  ProgramSetup setup;
  setup.before_exec = [&root] { ASSERT_EQ(::chroot(root.c_str()), 0); };
  const auto refused = run({source(), "--", "echo", "ran"}, setup);
  EXPECT_EQ(refused.exit_code, 125) << refused;
  EXPECT_EQ(refused.out, "");
  EXPECT_NE(refused.err.find("no mount point"), std::string::npos) << refused;
  ASSERT_EQ(::mount(root.c_str(), root.c_str(), nullptr, MS_BIND | MS_REC, nullptr), 0);
  const auto ran = run({source(), "--", "echo", "ran"}, setup);
  EXPECT_EQ(ran.out, "ran\n") << ran;
}

TEST_F(RunPlaceTest, RunsCanBeNested) {
  const std::vector<std::string> nested{
      "--timeout=0", source(), "--", flockfs_run_program(), "--timeout=0", source(), "--", "cat", source("f")};
  const auto free = run(nested);
  EXPECT_EQ(free.exit_code, 0) << free;
  EXPECT_EQ(free.out, "contents");
  const ForeignLock foreign(source("f"), LOCK_EX);
  const auto held = run(nested);
  EXPECT_EQ(held.exit_code, 1) << held;
  EXPECT_EQ(held.out, "");
  EXPECT_NE(held.err.find("1 refused"), std::string::npos) << held;
}

}  // namespace
}  // namespace flockfs::test
