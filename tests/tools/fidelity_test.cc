#include <gtest/gtest.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "harness/mirror_test.h"
#include "harness/program.h"
#include "rich_tree.h"

// A backup of the mirror is a backup of the source: whatever is in it shows there as it is, to system calls and to the
// programs that compare, archive and copy.
namespace flockfs::test {
namespace {

enum class Source { kDisk, kDiskWithoutPassthrough, kTmpfs };

class FidelityTest : public MirrorTest, public ::testing::WithParamInterface<Source> {
 protected:
  // Reading moves no access times here: they are compared as well, and GNU tar archives them.
  FidelityTest() {
    const bool tmpfs = GetParam() == Source::kTmpfs;
    const std::string path = source();
    require(tmpfs ? ::mount("tmpfs", path.c_str(), "tmpfs", MS_NOATIME, "mode=0755")
                  : ::mount(path.c_str(), path.c_str(), nullptr, MS_BIND, nullptr));
    if (!tmpfs) require(::mount(nullptr, path.c_str(), nullptr, MS_REMOUNT | MS_BIND | MS_NOATIME, nullptr));
  }
  void fill_source() { make_rich_tree(source(), GetParam() == Source::kTmpfs); }
  void adapt(MirrorSetup& setup) const override {
    if (GetParam() == Source::kDiskWithoutPassthrough) setup.options.emplace_back("passthrough=off");
  }

  static void require(int result) {
    if (result != 0) throw std::runtime_error("mount: " + errno_name(errno));
  }
  static ProgramResult run(const std::vector<std::string>& command) {
    const ProgramResult result = run_program(command, {}, kPatience * 4);
    EXPECT_EQ(result.exit_code, 0) << ::testing::PrintToString(command) << result;
    return result;
  }
  // What rsync would have to do to make the second like the first.
  static std::string differences(const std::string& one, const std::string& other) {
    const ProgramResult result = run({"rsync", "-aHAXS", "--checksum", "--itemize-changes", "--modify-window=-1",
                                      "--delete", "--dry-run", one + "/", other + "/"});
    return result.out + result.err;
  }
  // describe_tree() in a child.
  [[nodiscard]] std::string description(const std::string& dir) const {
    const std::string file = tree() / "description";
    EXPECT_TRUE(in_child([&] { write_file(file, describe_tree(dir)); }, kPatience * 2));
    return read_file(file);
  }
  void expect_same_description() const {
    const std::string of_source = description(source());
    const std::string of_mirror = description(mnt());
    EXPECT_GT(of_source.size(), 10000u);
    for (std::size_t at = 0; at < of_source.size() && of_source != of_mirror;) {  // only the first line that differs
      const std::size_t end = of_source.find('\n', at);
      ASSERT_EQ(of_source.substr(at, end - at), of_mirror.substr(at, of_mirror.find('\n', at) - at));
      at = end + 1;
    }
    EXPECT_EQ(of_source.size(), of_mirror.size());
  }
  // GNU tar's words with all that it can keep. It writes its own process number into the archive, with sparse files; so
  // it is the first process of a namespace.
  static std::vector<std::string> tar(std::vector<std::string> words) {
    words.insert(words.begin(), {"unshare", "--pid", "--fork", "--kill-child", "tar", "--xattrs", "--xattrs-include=*",
                                 "--acls", "-S", "--sort=name", "--numeric-owner", "--warning=no-file-ignored"});
    return words;
  }
  static void copy_by_rsync(const std::string& from, const std::string& to) {
    run({"rsync", "-aHAXS", "--modify-window=-1", from + "/", to + "/"});
  }
  // For copies: where all times can be kept, and nothing waits for a disk.
  [[nodiscard]] std::string make_room() const {
    const std::string room = folder("room");
    require(::mount("tmpfs", room.c_str(), "tmpfs", 0, "mode=0755"));
    return room;
  }
};
INSTANTIATE_TEST_SUITE_P(Tools, FidelityTest,
                         ::testing::Values(Source::kDisk, Source::kDiskWithoutPassthrough, Source::kTmpfs),
                         [](const ::testing::TestParamInfo<Source>& tested) {
                           return tested.param == Source::kDisk    ? "Disk"
                                  : tested.param == Source::kTmpfs ? "Tmpfs"
                                                                   : "DiskWithoutPassthrough";
                         });

// Inode numbers are those of the source, so they are the same on every mount.
TEST_P(FidelityTest, SystemCallsSayTheSameOfEverythingOnEveryMount) {
  fill_source();
  for (int mounts = 0; mounts < 2; ++mounts) {
    mount();
    expect_same_description();
    unmount();
  }
}

TEST_P(FidelityTest, RsyncFindsNoDifference) {
  fill_source();
  mount();
  EXPECT_EQ(differences(source(), mnt()), "");
  EXPECT_EQ(differences(mnt(), source()), "");
}

TEST_P(FidelityTest, TarMakesTheSameArchive) {
  fill_source();
  mount();
  const std::string room = make_room();
  for (const auto& [dir, name] : {std::pair{source(), "/source"}, {mnt(), "/mirror"}}) {
    EXPECT_EQ(run(tar({"-cf", room + name, "-C", dir, "."})).err, "");
  }
  const ProgramResult compared = run_program({"cmp", room + "/source", room + "/mirror"});
  EXPECT_EQ(compared.exit_code, 0) << compared;
  EXPECT_GT(stat_of(room + "/source").st_size, 500'000);
}

TEST_P(FidelityTest, CopiesOfTheMirrorAreCopiesOfTheSource) {
  fill_source();
  mount();
  const std::string room = make_room();
  for (const std::string name : {"/rsync", "/cp", "/tar"}) make_dir(room + name);
  copy_by_rsync(mnt(), room + "/rsync");
  EXPECT_EQ(differences(source(), room + "/rsync"), "");
  run({"cp", "-a", mnt() + "/.", room + "/cp"});
  EXPECT_EQ(differences(source(), room + "/cp"), "");
  run(tar({"-cf", room + "/archive", "-C", mnt(), "."}));
  run(tar({"-xpf", room + "/archive", "-C", room + "/tar"}));
  // Of all there is, an archive of tar has no sockets.
  EXPECT_EQ(::unlink(source("nodes/socket").c_str()), 0);
  run({"touch", "-r", room + "/tar/nodes", source("nodes")});
  EXPECT_EQ(differences(source(), room + "/tar"), "");
}

TEST_P(FidelityTest, EverythingIsRestoredThroughTheMirror) {
  const std::string saved = make_room();
  make_rich_tree(saved, GetParam() == Source::kTmpfs);
  mount();
  copy_by_rsync(saved, mnt());
  EXPECT_EQ(differences(saved, source()), "");
  run({"find", mnt(), "-mindepth", "1", "-delete"});
  EXPECT_EQ(list_dir(source()), std::vector<std::string>{});
  run({"cp", "-a", saved + "/.", mnt()});
  EXPECT_EQ(differences(saved, source()), "");
  expect_same_description();
}

}  // namespace
}  // namespace flockfs::test
