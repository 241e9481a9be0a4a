#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "harness/lockfile.h"
#include "harness/mirror_test.h"

// Real git and lock=...+lockfile, which follows its protocol: each refuses or waits for what the other holds.
namespace flockfs::test {
namespace {

constexpr Millis kGit{30000};

class GitTest : public MirrorTest {
 protected:
  GitTest() {
    cover_record_directory();
    git_in(source(), {"init", "-q", "."});
    write_file(source("a"), "first\n");
    git_in(source(), {"add", "a"});
    git_in(source(), {"commit", "-qm", "first"});
    mount({.options = {"lock=flock+lockfile"}});
  }

  [[nodiscard]] static ProgramSetup setup(const std::string& directory, const std::string& editor = "true") {
    return {.directory = directory,
            .environment = {"LC_ALL=C", "GIT_AUTHOR_NAME=A", "GIT_AUTHOR_EMAIL=a@b", "GIT_COMMITTER_NAME=A",
                            "GIT_COMMITTER_EMAIL=a@b", "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_SYSTEM=/dev/null",
                            "GIT_EDITOR=" + editor}};
  }
  [[nodiscard]] static std::vector<std::string> command(std::vector<std::string> words) {
    words.insert(words.begin(), {"git", "-c", "gc.auto=0", "-c", "safe.directory=*"});
    return words;
  }
  [[nodiscard]] static ProgramResult git(const std::string& directory, std::vector<std::string> words) {
    return run_program(command(std::move(words)), setup(directory), kGit);
  }
  // Must succeed; what it says.
  static std::string git_in(const std::string& directory, const std::vector<std::string>& words) {
    const ProgramResult result = git(directory, words);
    EXPECT_EQ(result.exit_code, 0) << ::testing::PrintToString(words) << result;
    return result.out;
  }
};

TEST_F(GitTest, RefusesWhileAClientOfTheMirrorWritesTheIndex) {
  write_file(source("b"), "second\n");
  Opener writer(mnt(".git/index"), O_RDWR);
  ASSERT_TRUE(writer.opens());
  const ProgramResult refused = git(source(), {"add", "b"});
  EXPECT_EQ(refused.exit_code, 128) << refused;
  EXPECT_NE(refused.err.find("Unable to create '" + source(".git/index.lock") + "': File exists."), std::string::npos)
      << refused;
  EXPECT_NE(refused.err.find("Another git process seems to be running"), std::string::npos) << refused;
  // Through the mirror as well, and readers go on.
  EXPECT_EQ(git(mnt(), {"add", "b"}).exit_code, 128);
  EXPECT_EQ(git_in(source(), {"log", "--format=%s"}), "first\n");
  writer.close();
  EXPECT_TRUE(goes_away(source(".git/index.lock")));
  git_in(source(), {"add", "b"});
  EXPECT_EQ(git_in(source(), {"diff", "--cached", "--name-only"}), "b\n");
}

// `git commit -a` holds index.lock while the editor runs, then renames it to index.
TEST_F(GitTest, WriterWaitsWhileGitHoldsTheIndex) {
  write_file(source("a"), "changed\n");
  const std::string go = folder("scratch2") + "/go";
  Program commit(command({"commit", "-a"}),
                 setup(source(), "sh -c 'until [ -e " + go + " ]; do sleep 0.02; done; echo second >\"$1\"' editor"));
  ASSERT_TRUE(eventually([&] { return exists(source(".git/index.lock")) && exists(source(".git/COMMIT_EDITMSG")); }));
  Opener writer(mnt(".git/index"), O_RDWR);
  ASSERT_TRUE(mirror().waits(writer.pid()));
  EXPECT_TRUE(log().wait_for({.event = "wait", .path = source(".git/index.lock")})) << log().text();
  EXPECT_NE(git_in(mnt(), {"status", "--short"}), "") << "readers do not wait";
  EXPECT_TRUE(writer.is_waiting());
  write_file(go, "");
  EXPECT_EQ(commit.exit_code(kGit), 0) << commit.err();
  ASSERT_TRUE(writer.opens());
  EXPECT_TRUE(exists(source(".git/index.lock")));
  EXPECT_EQ(writer.contents(), read_file(source(".git/index"))) << "the index that git has written";
  writer.close();
  EXPECT_TRUE(goes_away(source(".git/index.lock")));
  EXPECT_EQ(git_in(source(), {"log", "--format=%s"}), "second\nfirst\n");
  EXPECT_EQ(git_in(source(), {"status", "--short"}), "");
}

TEST_F(GitTest, WorksOnTheMirrorItself) {
  git_in(mnt(), {"init", "-q", "new"});
  const std::string work = mnt("new");
  EXPECT_TRUE(in_child([&] {
    for (int i = 0; i < 20; ++i) write_file(work + "/f" + std::to_string(i), std::to_string(i));
  }));
  git_in(work, {"add", "."});
  git_in(work, {"commit", "-qm", "all"});
  git_in(work, {"config", "some.key", "value"});
  git_in(work, {"branch", "side"});
  git_in(work, {"checkout", "-q", "side"});
  git_in(work, {"rm", "-q", "f1"});
  git_in(work, {"mv", "f2", "g2"});
  git_in(work, {"commit", "-qm", "moved"});
  git_in(work, {"tag", "-m", "tagged", "v1"});
  git_in(work, {"stash", "list"});
  git_in(work, {"checkout", "-q", "-"});
  git_in(work, {"merge", "-q", "side"});
  git_in(work, {"gc", "-q", "--prune=now"});
  git_in(work, {"reset", "-q", "--hard", "HEAD~1"});
  EXPECT_EQ(git_in(work, {"status", "--short"}), "");
  git_in(work, {"fsck", "--strict"});
  git_in(source(), {"clone", "-q", work, folder("clone")});
  // Seen from the source it is whole as well, and nothing of ours is left in it.
  EXPECT_EQ(git_in(source("new"), {"status", "--short"}), "");
  git_in(source("new"), {"fsck", "--strict"});
  EXPECT_EQ(run_program({"find", source(), "-name", "*.lock"}).out, "");
  for (const LogEntry& entry : log().matching({.event = "wait"})) {
    EXPECT_FALSE(entry.get("path").ends_with(".lock")) << entry.line;
  }
  EXPECT_EQ(log().count({.event = "timeout"}), 0u) << log().text();
}

// Each tries again when it is refused, as people do.
TEST_F(GitTest, CommitsOnBothSidesAtOnceAreAllThere) {
  const auto commit_from = [](const std::string& directory, const std::string& who) {
    const std::string script =
        "for i in 1 2 3 4 5 6 7 8; do echo $i >$0$i; n=0; "
        "until git -c safe.directory='*' add $0$i 2>err$0 && "
        "git -c gc.auto=0 -c safe.directory='*' commit -qm $0$i -- $0$i 2>>err$0; "
        "do n=$((n+1)); [ $n -lt 400 ] || exit 1; sleep 0.01; done; done; rm err$0";
    return std::make_unique<Program>(std::vector<std::string>{"sh", "-c", script, who}, setup(directory));
  };
  const auto one = commit_from(mnt(), "m");
  const auto other = commit_from(source(), "s");
  EXPECT_EQ(one->exit_code(kGit), 0) << one->err() << log().text();
  EXPECT_EQ(other->exit_code(kGit), 0) << other->err();
  const std::string subjects = git_in(source(), {"log", "--format=%s"});
  EXPECT_EQ(std::count(subjects.begin(), subjects.end(), '\n'), 17) << subjects;
  EXPECT_EQ(git_in(source(), {"status", "--short"}), "");
  git_in(source(), {"fsck", "--strict"});
  EXPECT_EQ(run_program({"find", source(), "-name", "*.lock"}).out, "");
}

}  // namespace
}  // namespace flockfs::test
