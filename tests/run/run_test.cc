#include "run_test.h"

#include <linux/close_range.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>

namespace flockfs::test {
namespace {

constexpr Millis kGone{1000};
constexpr Millis kRunTime = kPatience * 4;

}  // namespace

std::string flockfs_run_program() {
  const char* const path = std::getenv("FLOCKFS_RUN_BIN");
  return path == nullptr || *path == '\0' ? BUILT_FLOCKFS_RUN : path;
}

RunTest::RunTest() { write_file(source("f"), "contents"); }

RunTest::~RunTest() {
  const auto gone = all_gone();
  EXPECT_TRUE(gone);
  if (!gone) {
    for (const pid_t pid : processes()) ::kill(pid, SIGKILL);
  }
  expect_no_sanitizer_report(tree() / "scratch");
}

// What the program that runs the tests has left open is no part of them.
ProgramSetup RunTest::clean(ProgramSetup setup) {
  setup.before_exec = [then = std::move(setup.before_exec)] {
    ::close_range(3, ~0U, CLOSE_RANGE_CLOEXEC);
    if (then) then();
  };
  return setup;
}

ProgramSetup RunTest::with_environment(ProgramSetup setup) const {
  setup.environment.push_back("S=" + source());
  setup.environment.push_back("T=" + tree().path());
  for (const std::string& pair : sanitizer_environment(tree() / "scratch")) setup.environment.push_back(pair);
  return clean(std::move(setup));
}

std::vector<std::string> RunTest::command(const std::vector<std::string>& arguments) const {
  std::vector<std::string> words{flockfs_run_program()};
  words.insert(words.end(), arguments.begin(), arguments.end());
  return words;
}

ProgramResult RunTest::run(const std::vector<std::string>& arguments, const ProgramSetup& setup) const {
  return run_program(command(arguments), with_environment(setup), kRunTime);
}

std::unique_ptr<Program> RunTest::start(const std::vector<std::string>& arguments, const ProgramSetup& setup) const {
  return std::make_unique<Program>(command(arguments), with_environment(setup));
}

std::unique_ptr<Program> RunTest::start_shell(const std::string& script, const std::vector<std::string>& options,
                                              ProgramSetup setup) const {
  std::vector<std::string> arguments = options;
  arguments.insert(arguments.end(), {source(), "--", "sh", "-c", script});
  return start(arguments, setup);
}

ProgramResult RunTest::run_shell(const std::string& script, const std::vector<std::string>& options,
                                 ProgramSetup setup) const {
  const auto program = start_shell(script, options, std::move(setup));
  const int code = program->exit_code(kRunTime);
  return {code, program->out(), program->err()};
}

std::vector<pid_t> RunTest::processes() const {
  std::vector<pid_t> found;
  std::error_code error;
  const auto wanted = std::filesystem::canonical(flockfs_run_program());
  for (const std::string& name : list_dir("/proc")) {
    pid_t pid = 0;
    if (std::from_chars(name.data(), name.data() + name.size(), pid).ec != std::errc()) continue;
    if (std::filesystem::read_symlink("/proc/" + name + "/exe", error) != wanted || error) continue;
    std::ifstream file("/proc/" + name + "/cmdline", std::ios::binary);
    std::stringstream words;
    words << file.rdbuf();
    if (words.str().find(tree().path()) != std::string::npos) found.push_back(pid);
  }
  return found;
}

std::vector<pid_t> RunTest::mirrors_of(pid_t runner) const {
  std::vector<pid_t> all = processes();
  std::erase_if(all, [runner](pid_t pid) {
    std::string name;
    std::getline(std::ifstream("/proc/" + std::to_string(pid) + "/comm"), name);
    return pid == runner || name != "flockfs";
  });
  return all;
}

::testing::AssertionResult RunTest::all_gone() const {
  if (eventually([&] { return processes().empty(); }, kGone)) return ::testing::AssertionSuccess();
  auto failure = ::testing::AssertionFailure() << "still there:";
  for (const pid_t pid : processes()) {
    std::string state;
    std::getline(std::ifstream("/proc/" + std::to_string(pid) + "/wchan"), state);
    failure << " " << pid << " (" << state << ")";
  }
  return failure;
}

bool RunTest::comes(const std::string& name) const {
  return eventually([&] { return exists(tree() / name); }, kPatience * 2);
}

}  // namespace flockfs::test
