#include <gtest/gtest.h>
#include <sys/file.h>

#include <fstream>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "harness/mirror_test.h"

// Everyday programs, none of which knows of locks: each must wait while somebody outside the mirror holds the source
// file. The time that passes proves nothing; the daemon's own line about the wait does, and that no byte has come out
// before.
namespace flockfs::test {
namespace {

enum class Does { kReads, kAppends, kReplaces };
enum class Size { kGrows, kStays };

struct Tool {
  std::string name;
  std::string comm;  // of the process that opens the file
  // Run in the mirror's root, where the file is `data`; OUT stands for a directory outside.
  std::vector<std::string> command;
  // Prints what the program made of the file; run in the source's root. Empty: the program's own standard output.
  std::vector<std::string> result;
  Does does = Does::kReads;
  Size size = Size::kGrows;
};

void PrintTo(const Tool& tool, std::ostream* out) { *out << tool.name; }

std::vector<std::string> shell(const std::string& script) { return {"sh", "-c", script}; }

std::vector<Tool> tools() {
  const std::string unzip = "import sys,zipfile; sys.stdout.buffer.write(zipfile.ZipFile(sys.argv[1]).read('data'))";
  return {
      {"Tar", "tar", {"tar", "-cf", "OUT/tar", "data"}, {"tar", "-xOf", "OUT/tar"}},
      {"Rsync", "rsync", {"rsync", "-a", "data", "OUT/copy"}, {"cat", "OUT/copy"}},
      {"Cp", "cp", {"cp", "data", "OUT/copy"}, {"cat", "OUT/copy"}},
      {"Cat", "cat", {"cat", "data"}, {}},
      {"Dd", "dd", {"dd", "if=data", "of=OUT/copy", "bs=64k", "status=none"}, {"cat", "OUT/copy"}},
      {"Sha256sum", "sha256sum", shell("sha256sum data >OUT/sum"), shell("sha256sum --status -c OUT/sum && cat data")},
      {"Zip", "zip", {"zip", "-q", "OUT/zip", "data"}, {"/usr/bin/python3", "-c", unzip, "OUT/zip.zip"}},
      {"Gzip", "gzip", shell("gzip -c data >OUT/gz"), {"gzip", "-dc", "OUT/gz"}},
      {"Python", "python3", {"/usr/bin/python3", "-c", "print(open('data').read(), end='')"}, {}},
      {"Perl", "perl", {"perl", "-ne", "print", "data"}, {}},
      {"StaticBusybox", "busybox", {"busybox", "cat", "data"}, {}},
      // cpio notes the size before it opens the file and cuts what has grown since: no lock can mend that.
      {"Cpio", "cpio", shell("echo data | cpio -o --quiet >OUT/cpio"), shell("cpio -i --quiet --to-stdout <OUT/cpio"),
       Does::kReads, Size::kStays},
      {"Grep", "grep", {"grep", "-a", "", "data"}, {}},
      {"ShellRead", "sh", shell("cat <data"), {}},
      {"ShellAppend", "sh", shell("echo added >>data"), {"cat", "data"}, Does::kAppends},
      {"ShellReplace", "sh", shell("echo added >data"), {"cat", "data"}, Does::kReplaces},
  };
}

// Lines that begin with the word and that no compression makes small.
std::string text_of(const std::string& word, int lines) {
  std::mt19937_64 random(7);
  std::string text;
  for (int line = 0; line < lines; ++line) {
    text += word + " " + std::to_string(line);
    for (int number = 0; number < 8; ++number) text += " " + std::to_string(random());
    text += "\n";
  }
  return text;
}

pid_t parent_of(pid_t pid) {
  std::ifstream status("/proc/" + std::to_string(pid) + "/status");
  for (std::string key; status >> key; status.ignore(1000, '\n')) {
    if (pid_t parent = 0; key == "PPid:" && status >> parent) return parent;
  }
  return 0;
}

bool is_or_descends_from(pid_t pid, pid_t ancestor) {
  while (pid > 1 && pid != ancestor) pid = parent_of(pid);
  return pid == ancestor;
}

class ToolTest : public MirrorTest, public ::testing::WithParamInterface<Tool> {
 protected:
  ToolTest() : out_(folder("out")) {}

  [[nodiscard]] std::vector<std::string> words(std::vector<std::string> command) const {
    for (std::string& word : command) {
      for (auto at = word.find("OUT/"); at != std::string::npos; at = word.find("OUT/", at + out_.size())) {
        word.replace(at, 3, out_);
      }
    }
    return command;
  }

  // All that has come out of the program so far.
  [[nodiscard]] std::string output(const Program& program) const {
    std::string all = program.out();
    for (const std::string& name : list_dir(out_)) all += read_file(out_ + "/" + name);
    return all;
  }

  // The log line of a wait for the file by this program or a child of it.
  [[nodiscard]] ::testing::AssertionResult waits_itself(const Program& program) {
    const auto entry = log().wait_for({.event = "wait", .path = source("data")});
    if (!entry) return ::testing::AssertionFailure() << "no event=wait; its messages: " << program.err();
    if (entry->get("comm") != GetParam().comm || !is_or_descends_from(std::stoi(entry->get("pid")), program.pid())) {
      return ::testing::AssertionFailure() << "somebody else waits: " << entry->line;
    }
    return ::testing::AssertionSuccess();
  }

 private:
  std::string out_;
};

TEST_P(ToolTest, WaitsForTheHolderAndThenSeesWhatItLeft) {
  const Tool& tool = GetParam();
  const std::string before = text_of("BEFORE", 500);
  // The words are equally long, so the same number of lines is the same number of bytes.
  const std::string after = text_of("AFTER_", tool.size == Size::kGrows ? 900 : 500);
  const std::string path = source("data");
  write_file(path, before);
  mount();

  ForeignLock holder(path, LOCK_EX);
  Program program(words(tool.command), {.directory = mnt()});
  ASSERT_TRUE(waits_itself(program));

  EXPECT_EQ(program.process().poll_status(), std::nullopt) << "it has ended";
  const std::string early = output(program);
  EXPECT_LT(early.size(), 1024U) << "something has come out before the lock was free";
  EXPECT_EQ(early.find("BEFORE"), std::string::npos);
  EXPECT_EQ(read_file(path), before) << "the file has changed before the lock was free";

  write_file(path, after);  // the holder writes, as it may
  EXPECT_EQ(program.process().poll_status(), std::nullopt) << "it has ended";
  EXPECT_EQ(output(program).find("AFTER_"), std::string::npos);
  EXPECT_EQ(read_file(path), after);
  holder.release();

  EXPECT_EQ(program.exit_code(), 0) << program.err();
  std::string made = program.out();
  if (!tool.result.empty()) {
    const ProgramResult result = run_program(words(tool.result), {.directory = source()});
    EXPECT_EQ(result.exit_code, 0) << result.err;
    made = result.out;
  }
  const std::string expected = tool.does == Does::kReads     ? after
                               : tool.does == Does::kAppends ? after + "added\n"
                                                             : "added\n";
  EXPECT_TRUE(made == expected) << made.size() << " bytes instead of " << expected.size();
  EXPECT_TRUE(
      log().wait_for({.event = "lock", .path = path, .mode = tool.does == Does::kReads ? "shared" : "exclusive"}));
}

std::string tool_name(const ::testing::TestParamInfo<Tool>& tested) { return tested.param.name; }

INSTANTIATE_TEST_SUITE_P(Tools, ToolTest, ::testing::ValuesIn(tools()), tool_name);

// Else the test above says nothing about programs that no preloaded library can reach.
TEST(ToolsTest, BusyboxIsAStaticBinary) {
  const ProgramResult result = run_program({"ldd", find_program("busybox")});
  EXPECT_NE(result.exit_code, 0) << result;
}

}  // namespace
}  // namespace flockfs::test
