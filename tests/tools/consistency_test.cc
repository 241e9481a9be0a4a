#include <gtest/gtest.h>

#include <random>
#include <string>
#include <vector>

#include "full_size.h"
#include "harness/mirror_test.h"
#include "stamped_file.h"

// Archives made while writers that lock keep rewriting and resizing the files.
namespace flockfs::test {
namespace {

constexpr int kFiles = 20;
constexpr int kWriters = 3;
constexpr int kPlainMost = 200;  // archives of the plain source, until one is torn

class ConsistencyTest : public PassthroughTest {
 protected:
  ConsistencyTest() {
    for (int number = 0; number < kFiles; ++number) make_stamped_file(file(number), {0, 16});
  }

  [[nodiscard]] std::string file(int number) const { return source("file" + std::to_string(number)); }

  // Rewrites files of the source until it is killed.
  [[nodiscard]] Child writer(unsigned seed) {
    return Child([this, seed](Peer& test) {
      std::mt19937 random(seed);
      const std::uint64_t first = std::uint64_t{seed} << 32;  // no two writers make the same version
      test.say("writing");
      for (std::uint64_t version = first;; ++version) {
        const int number = static_cast<int>(random() % kFiles);
        rewrite_stamped_file(file(number), {version, 8 + random() % 57});
      }
    });
  }

  [[nodiscard]] std::vector<Child> start_writers() {
    std::vector<Child> writers;
    for (unsigned seed = 1; seed <= kWriters; ++seed) writers.push_back(writer(seed));
    for (Child& child : writers) EXPECT_TRUE(child.says("writing"));
    return writers;
  }

  // What is wrong with the files of an archive.
  [[nodiscard]] std::vector<std::string> flaws_in(const std::string& archive, int number) const {
    const std::string copy = folder("copy" + std::to_string(number));
    EXPECT_EQ(run_program({"tar", "-xf", archive, "-C", copy}).exit_code, 0);
    const auto names = list_dir(copy);
    EXPECT_EQ(names.size(), std::size_t{kFiles});
    std::vector<std::string> flaws;
    for (const std::string& name : names) {
      if (const auto flaw = flaw_of(read_file(copy + "/" + name))) flaws.push_back(name + ": " + *flaw);
    }
    EXPECT_EQ(run_program({"rm", "-r", copy}).exit_code, 0);
    return flaws;
  }
};

INSTANTIATE_TEST_SUITE_P(Tools, ConsistencyTest, BothPassthroughs(), passthrough_name);

TEST_P(ConsistencyTest, NoFileIsTornInArchivesOfTheMirror) {
  mount();
  const auto writers = start_writers();
  const std::string archive = folder("archives") + "/tar";
  for (int run = 0; run < (full_size() ? 200 : 20); ++run) {
    const ProgramResult tar = run_program({"tar", "-cf", archive, "-C", mnt(), "."}, {}, Millis(60000));
    // Not even "file changed as we read it".
    ASSERT_EQ(tar.exit_code, 0) << tar.err;
    EXPECT_EQ(flaws_in(archive, run), std::vector<std::string>{});
  }
  EXPECT_GT(log().count({.event = "wait"}), 0U) << "tar never met a writer: this run proves nothing";
}

// Without a mirror, so once is enough.
class PlainSourceTest : public ConsistencyTest {};

TEST_F(PlainSourceTest, FilesAreTornInArchivesOfThePlainSource) {
  const auto writers = start_writers();
  const std::string archive = folder("archives") + "/tar";
  for (int run = 0; run < kPlainMost; ++run) {
    EXPECT_LE(run_program({"tar", "-cf", archive, "-C", source(), "."}).exit_code, 1);
    if (!flaws_in(archive, run).empty()) return;
  }
  FAIL() << kPlainMost << " archives of the plain source are whole: the test of the mirror proves nothing";
}

}  // namespace
}  // namespace flockfs::test
