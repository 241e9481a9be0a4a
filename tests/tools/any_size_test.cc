// As many files as there are: walked, read and archived by a daemon with few descriptors and little memory.

#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/capability.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <fstream>
#include <stdexcept>
#include <string>
#include <vector>

#include "full_size.h"
#include "harness/file_systems.h"
#include "harness/mirror_test.h"
#include "harness/program.h"

namespace flockfs::test {
namespace {

constexpr int kFilesEach = 500;       // in a directory
const std::string kNameEnd(28, 'n');  // a name of 39 bytes
constexpr int kMostBytes = 256 + 39;  // of the daemon's memory for a file
constexpr rlim_t kDescriptorLimit = 1024;
constexpr int kMostDescriptors = 512;

// As `ulimit -n 1024` for one that may not raise it.
void limit_descriptors() {
  const rlimit few{kDescriptorLimit, kDescriptorLimit};
  if (::prctl(PR_CAPBSET_DROP, CAP_SYS_RESOURCE) != 0 || ::setrlimit(RLIMIT_NOFILE, &few) != 0) ::_exit(126);
}

std::string name_of(int number) {
  char text[16];
  std::snprintf(text, sizeof text, "f%09d.", number);
  return text + kNameEnd;
}

// Every eighth has contents: a page of memory for each file of a tmpfs is more than some machines have.
std::string contents_of(int number) { return number % 8 == 0 ? std::to_string(number) : ""; }

enum class Handles { kTmpfs, kNoneOnOverlay };

class AnySizeTest : public MirrorTest, public ::testing::WithParamInterface<Handles> {
 protected:
  const int files_ = full_size() ? 1'000'000 : 20'000;
  const int directories_ = files_ / kFilesEach;
  const Millis time_ = full_size() ? Millis(400'000) : Millis(60'000);

  void SetUp() override {
    const std::string room = folder("room");
    ASSERT_EQ(mount_tmpfs(room), 0);
    for (const char* name : {"/lower", "/upper", "/work"}) make_dir(room + name);
    fill(room + "/upper/tree");  // overlayfs renames no directory of a lower layer
    if (GetParam() == Handles::kNoneOnOverlay) {
      ASSERT_EQ(mount_overlay(room + "/lower", room + "/upper", room + "/work", source()), 0);
    } else {
      ASSERT_EQ(::mount((room + "/upper").c_str(), source().c_str(), nullptr, MS_BIND, nullptr), 0);
    }
    mount({.options = {"log_level=info"},  // a line for each open would be a gigabyte
           .program = {.before_exec = limit_descriptors},
           .test_deadline = Millis(1'500'000)});
  }

  [[nodiscard]] static std::string directory(int number) { return "tree/d" + std::to_string(number); }

  void fill(const std::string& tree) const {
    make_dir(tree);
    for (int d = 0; d < directories_; ++d) {
      const std::string path = tree + "/d" + std::to_string(d);
      make_dir(path);
      const UniqueFd dir = open_file(path, O_RDONLY | O_DIRECTORY);
      for (int f = 0; f < kFilesEach; ++f) {
        const UniqueFd fd(::openat(dir.get(), name_of(f).c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0644));
        const std::string text = contents_of(f);
        if (!fd || ::write(fd.get(), text.data(), text.size()) != static_cast<ssize_t>(text.size())) {
          throw std::runtime_error("cannot make " + path + ": " + errno_name(errno));
        }
      }
    }
  }

  // Lists the directories from `first` on and looks at all that is in them.
  void walk(int first, int end) const {
    EXPECT_TRUE(in_child(
        [&] {
          for (int d = first; d < end; ++d) {
            const auto names = list_dir(mnt(directory(d)));
            EXPECT_EQ(names.size(), std::size_t{kFilesEach});
            for (const std::string& name : names) (void)stat_of(mnt(directory(d) + "/" + name));
          }
        },
        time_));
  }
  void read_all_files() const {
    EXPECT_TRUE(in_child(
        [&] {
          for (int d = 0; d < directories_; ++d) {
            for (int f = 0; f < kFilesEach; ++f) {
              EXPECT_EQ(read_file(mnt(directory(d) + "/" + name_of(f))), contents_of(f));
            }
          }
        },
        time_));
  }
  // Looks at the daemon's descriptors all the time.
  void archive() {
    Program tar({"bash", "-c", "set -o pipefail; tar -C \"$1\" -cf - . | tar -tf - | wc -l", "-", mnt()});
    int most = 0;
    EXPECT_TRUE(eventually(
        [&] {
          most = std::max(most, mirror().descriptors());
          return tar.process().poll_status().has_value();
        },
        time_));
    EXPECT_EQ(tar.exit_code(), 0) << tar.err();
    EXPECT_EQ(tar.err(), "");
    EXPECT_EQ(tar.out(), std::to_string(files_ + directories_ + 2) + "\n");
    EXPECT_LT(most, kMostDescriptors);
  }

  // In kB, from /proc/PID/status.
  [[nodiscard]] long status(const std::string& key) {
    std::ifstream file("/proc/" + std::to_string(mirror().daemon()) + "/status");
    for (std::string line; std::getline(file, line);) {
      if (line.starts_with(key + ":")) return std::stol(line.substr(key.size() + 1));
    }
    throw std::runtime_error("no " + key);
  }
  // What sanitizers reserve and what they put around each allocation is theirs.
  [[nodiscard]] bool sanitized() { return status("VmSize") > 1'000'000'000; }

  // The kernel looks at a directory once more whose time is over, and forgets all that was below it if it has gone.
  void let_kernel_forget() {
    ASSERT_EQ(::rename(source("tree").c_str(), source("moved").c_str()), 0);
    EXPECT_TRUE(eventually([&] { return run_program({"test", "-e", mnt("tree")}, {}, time_).exit_code == 1; }));
  }
};
INSTANTIATE_TEST_SUITE_P(Tools, AnySizeTest, ::testing::Values(Handles::kTmpfs, Handles::kNoneOnOverlay),
                         [](const ::testing::TestParamInfo<Handles>& tested) {
                           return tested.param == Handles::kTmpfs ? "Tmpfs" : "OverlayWithoutHandles";
                         });

TEST_P(AnySizeTest, FilesAreWalkedReadAndArchivedWithFewDescriptorsAndLittleMemory) {
  // The first half has taken what is taken once, and the second shows what a file costs.
  walk(0, directories_ / 2);
  const long half = status("VmRSS");
  walk(directories_ / 2, directories_);
  const long all = status("VmRSS");
  EXPECT_LT(mirror().descriptors(), kMostDescriptors);
  const double bytes = 1024.0 * static_cast<double>(all - half) / (files_ / 2.0);
  std::printf("any size: %d files, %ld and then %ld kB resident, %.0f bytes a file, %d descriptors\n", files_, half,
              all, bytes, mirror().descriptors());
  if (!sanitized()) {
    EXPECT_LT(bytes, kMostBytes);
    EXPECT_GT(bytes, 50) << "the kernel does not know all of them, so this shows nothing";
  }

  read_all_files();
  EXPECT_LT(mirror().descriptors(), kMostDescriptors);
  archive();

  const long before = status("VmRSS");
  let_kernel_forget();
  const auto given_back = [&] { return before - status("VmRSS") > all - half; };
  if (!sanitized()) {
    EXPECT_TRUE(eventually(given_back, kPatience * 4)) << before << " kB, then " << status("VmRSS") << " kB";
  }
  std::printf("any size: %ld kB resident before the kernel has forgotten them, %ld kB after\n", before,
              status("VmRSS"));
}

}  // namespace
}  // namespace flockfs::test
