#include <gtest/gtest.h>

#include <iterator>
#include <regex>
#include <string>
#include <vector>

#include "full_size.h"
#include "harness/mirror_test.h"
#include "harness/program.h"

// Backup programs that know from inode number, size and times what they need not read again: a mirror that is mounted
// anew for each run must be to them what the source would be.
namespace flockfs::test {
namespace {

constexpr Millis kTime{30000};
constexpr int kFiles = 40;

class BackupTest : public MirrorTest {
 protected:
  BackupTest() {
    make_dir(source("d"));
    for (int i = 0; i < kFiles; ++i) write_file(file(i), "contents " + std::to_string(i));
  }
  [[nodiscard]] std::string file(int number) const { return source("d/file" + std::to_string(number)); }

  [[nodiscard]] ProgramResult run(const std::vector<std::string>& command) const {
    const ProgramSetup setup{
        .directory = mnt(),
        .environment = {"LC_ALL=C.UTF-8", "HOME=" + tree().path(), "RESTIC_PASSWORD=secret",
                        "RESTIC_CACHE_DIR=" + tree().path() + "/cache", "BORG_BASE_DIR=" + tree().path() + "/cache",
                        "BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK=yes"}};
    const ProgramResult result = run_program(command, setup, kTime);
    EXPECT_EQ(result.exit_code, 0) << ::testing::PrintToString(command) << result;
    return result;
  }

  // The command on a mirror that is mounted for it alone.
  [[nodiscard]] ProgramResult run_on_new_mount(const std::vector<std::string>& command) {
    mount({.options = {"ro"}});
    const std::size_t before = log().count({.event = "lock"});
    const ProgramResult result = run(command);
    opened_ = log().count({.event = "lock"}) - before;
    unmount();
    return result;
  }
  // How many files it has opened there.
  [[nodiscard]] std::size_t opened() const { return opened_; }

 private:
  std::size_t opened_ = 0;
};

// The number after "key": in JSON; -1 if there is none.
long number_in(const std::string& json, const std::string& key) {
  std::smatch found;
  return std::regex_search(json, found, std::regex("\"" + key + "\": *(\\d+)")) ? std::stol(found[1]) : -1;
}

// Its repository alone takes seconds to make: what a password costs to try is measured.
TEST_F(BackupTest, SecondRunOfResticReadsOnlyWhatHasChanged) {
  if (!full_size()) GTEST_SKIP() << "at full size only";
  const std::string repository = folder("repository");
  (void)run({"restic", "init", "-q", "-r", repository});
  const std::vector<std::string> backup{"restic", "backup", "--json", "-r", repository, mnt()};
  const ProgramResult first = run_on_new_mount(backup);
  EXPECT_EQ(number_in(first.out, "files_new"), kFiles) << first;
  EXPECT_EQ(opened(), std::size_t{kFiles});

  write_file(file(3), "CONTENTS 3");
  const ProgramResult second = run_on_new_mount(backup);
  EXPECT_EQ(number_in(second.out, "files_unmodified"), kFiles - 1) << second;
  EXPECT_EQ(number_in(second.out, "files_changed"), 1) << second;
  EXPECT_EQ(number_in(second.out, "files_new"), 0) << second;
  EXPECT_EQ(opened(), 1U);
}

// How many lines say so of a file: "U d/file1".
std::size_t count_status(const std::string& list, char status) {
  const std::regex line(std::string("(^|\n)") + status + " [^\n]*file");
  return static_cast<std::size_t>(std::distance(std::sregex_iterator(list.begin(), list.end(), line), {}));
}

// It opens each file to ask for its times; what it then does with it, it says itself.
TEST_F(BackupTest, SecondRunOfBorgReadsOnlyWhatHasChanged) {
  // The times of the newest file that it has seen are not relied upon: it may change again within their resolution.
  pause_for(Millis(20));
  write_file(source("newest"), "contents");
  const std::string repository = tree() / "repository";
  (void)run({"borg", "init", "-e", "none", repository});
  const auto backup = [&](const char* name) {
    return std::vector<std::string>{
        "borg", "create", "--list", "--files-cache=ctime,size,inode", repository + "::" + name, "."};
  };
  const ProgramResult first = run_on_new_mount(backup("first"));
  EXPECT_EQ(count_status(first.err, 'A'), std::size_t{kFiles}) << first;

  write_file(file(3), "CONTENTS 3");
  const ProgramResult second = run_on_new_mount(backup("second"));
  EXPECT_EQ(count_status(second.err, 'U'), kFiles - 1U) << second;
  EXPECT_EQ(count_status(second.err, 'M'), 1U) << second;
}

}  // namespace
}  // namespace flockfs::test
