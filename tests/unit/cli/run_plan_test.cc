#include "cli/run_plan.h"

#include <gmock/gmock.h>

#include <cstdlib>
#include <filesystem>
#include <string>

#include "temp_directory.h"

namespace flockfs {
namespace {

namespace fs = std::filesystem;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

class RunPlanTest : public ::testing::Test {
 protected:
  RunPlanTest() {
    for (const char* const path : {"a/sub/deep", "ab", "c"}) fs::create_directories(top_ / path);
    command_.command = {"true"};
  }

  [[nodiscard]] std::string at(const std::string& path) const { return (top_ / path).string(); }
  [[nodiscard]] RunPlan plan() const {
    auto made = make_run_plan(command_);
    EXPECT_TRUE(made.ok()) << made.error().message();
    return made.ok() ? *made : RunPlan{};
  }

  const TempDirectory directory_;
  const fs::path top_ = directory_.path();
  CommandLine command_;
};

TEST_F(RunPlanTest, SourcesWithinOthersAreServedByThese) {
  command_.sources = {at("a/sub"), at("c"), at("a/sub/deep"), at("a"), at("a/"), at("ab")};
  const RunPlan made = plan();
  EXPECT_THAT(made.sources, ElementsAre(at("a/sub"), at("c"), at("a/sub/deep"), at("a"), at("a"), at("ab")));
  std::vector<std::string> mirrored;
  for (const MirrorConfig& mirror : made.mirrors) {
    mirrored.push_back(mirror.source);
    EXPECT_EQ(mirror.mountpoint, mirror.source);
    EXPECT_TRUE(mirror.covers_source);
  }
  EXPECT_THAT(mirrored, ElementsAre(at("c"), at("a"), at("ab")));
}

TEST_F(RunPlanTest, PathsGoToTheMirrorsThatTheyAreIn) {
  command_.sources = {at("a"), at("ab"), at("c")};
  command_.mirror.prefixes = {at("a/sub"), at("c")};
  command_.mirror.excludes = {"new"};
  const RunPlan made = plan();
  ASSERT_EQ(made.mirrors.size(), 3u);
  EXPECT_THAT(made.mirrors[0].prefixes, ElementsAre(at("a/sub")));
  EXPECT_THAT(made.mirrors[0].excludes, ElementsAre(at("a/new")));
  EXPECT_THAT(made.mirrors[1].prefixes, IsEmpty());
  EXPECT_THAT(made.mirrors[1].excludes, ElementsAre(at("ab"))) << "nothing of it is selected";
  EXPECT_THAT(made.mirrors[2].prefixes, ElementsAre(at("c")));
}

TEST_F(RunPlanTest, PathsOutsideEverySourceAreRefused) {
  command_.sources = {at("a"), at("c")};
  for (const std::string& path : {at("ab"), std::string("../ab"), std::string("../c")}) {
    command_.mirror.prefixes = {path};
    const auto made = make_run_plan(command_);
    ASSERT_FALSE(made.ok()) << path;
    EXPECT_THAT(made.error().message(), HasSubstr("outside every SOURCE"));
  }
}

TEST_F(RunPlanTest, SourceThatIsNoDirectoryIsRefused) {
  command_.sources = {at("missing")};
  const auto made = make_run_plan(command_);
  ASSERT_FALSE(made.ok());
  EXPECT_THAT(made.error().message(), HasSubstr("missing"));
}

}  // namespace
}  // namespace flockfs
