// flockfs-run(1): runs a command where each SOURCE is covered by a locking mirror of itself.

#include <unistd.h>

#include <cstdio>
#include <exception>
#include <string>
#include <vector>

#include "cli/command_line.h"
#include "cli/help.h"
#include "cli/run_plan.h"
#include "run/caller_state.h"
#include "run/runner.h"

namespace flockfs {
namespace {

int print(const std::string& text) {
  if (std::fputs(text.c_str(), stdout) >= 0 && std::fflush(stdout) == 0) return 0;
  return say(kRunFailure, errno_error("cannot write").message());
}

int main_with(const std::vector<std::string>& arguments, const CallerState& caller) {
  const auto command = parse_run_command_line(arguments, ::geteuid());
  if (!command.ok()) {
    return say(kRunFailure, command.error().message() + "\nTry 'flockfs-run --help' for more information.");
  }
  if (command->request == CommandLine::Request::kHelp) return print(help_text(Program::kRun));
  if (command->request == CommandLine::Request::kVersion) return print(version_text(Program::kRun));
  const auto plan = make_run_plan(*command);
  if (!plan.ok()) return say(kRunFailure, plan.error().message());
  return run(*plan, caller);
}

}  // namespace
}  // namespace flockfs

int main(int argc, char** argv) {
  const flockfs::CallerState caller = flockfs::CallerState::take();
  try {
    return flockfs::main_with(std::vector<std::string>(argv + (argc > 0 ? 1 : 0), argv + argc), caller);
  } catch (const std::exception& failure) {
    return flockfs::say(flockfs::kRunFailure, failure.what());
  }
}
