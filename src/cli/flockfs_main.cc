// flockfs(8): mounts a locking mirror and serves it.

#include <sys/prctl.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <exception>
#include <string>
#include <variant>
#include <vector>

#include "base/log.h"
#include "cli/command_line.h"
#include "cli/daemonize.h"
#include "cli/dead_mirror.h"
#include "cli/exit_code.h"
#include "cli/help.h"
#include "cli/paths.h"
#include "cli/service_manager.h"
#include "mirror/mirror.h"
#include "status/server.h"

namespace flockfs {
namespace {

ExitCode print_usage_error(const std::string& message) {
  (void)std::fprintf(stderr, "flockfs: %s\nTry 'flockfs --help' for more information.\n", message.c_str());
  return kExitUsage;
}

ExitCode print_failure(const std::string& message) {
  (void)std::fprintf(stderr, "flockfs: %s\n", message.c_str());
  return kExitFailure;
}

ExitCode print(const std::string& text) {
  if (std::fputs(text.c_str(), stdout) >= 0 && std::fflush(stdout) == 0) return kExitOk;
  return print_failure(errno_error("cannot write").message());
}

// Mirror takes these by itself, in a thread of its own: so they are blocked before any thread starts.
void block_stop_signals() {
  sigset_t signals;
  sigemptyset(&signals);
  for (const int signal : {SIGTERM, SIGINT, SIGHUP}) sigaddset(&signals, signal);
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
}

ExitCode serve(const CommandLine& command, Startup startup) {
  block_stop_signals();
  if (Status opened = log_open(command.log); !opened.ok()) return startup.fail(kExitFailure, opened.error().message());
  auto status_directory = StatusServer::open_directory();
  auto mirror = Mirror::mount(command.mirror);
  if (!mirror.ok()) return startup.fail(kExitFailure, mirror.error().message());
  const auto status = StatusServer::serve(std::move(status_directory), **mirror);
  if (Status told = tell_service_manager("READY=1"); !told) log_error("notify", "", told.error());
  // Whoever started us has gone (^C, a timeout): nobody will use this mirror or unmount it, so stop in the usual way.
  if (!startup.ready()) (void)::kill(::getpid(), SIGTERM);
  const Status served = (*mirror)->serve();
  if (served.ok()) return kExitOk;
  log_error("serve", command.mirror.mountpoint, served.error());
  return kExitFailure;
}

ExitCode run(const CommandLine& command) {
  if (command.foreground) {
    const ExitCode code = serve(command, Startup::in_foreground());
    log_close();
    return code;
  }
  auto side = start_in_background();
  if (auto* const startup = std::get_if<Startup>(&side)) {
    const ExitCode code = serve(command, std::move(*startup));
    log_close();
    return code;
  }
  const auto& outcome = std::get<StartOutcome>(side);
  if (outcome.code != kExitOk) (void)print_failure(outcome.message);
  return outcome.code;
}

ExitCode main_with(const std::vector<std::string>& arguments) {
  auto command = parse_command_line(arguments, ::geteuid());
  if (!command.ok()) return print_usage_error(command.error().message());
  if (command->request == CommandLine::Request::kHelp) return print(help_text());
  if (command->request == CommandLine::Request::kVersion) return print(version_text());
  const auto replaced = detach_dead_mirrors(command->mirror.mountpoint);
  if (!replaced.ok()) return print_failure(replaced.error().message());
  if (*replaced > 0) (void)std::fprintf(stderr, "flockfs: replacing a mirror that has died\n");
  if (Status resolved = resolve_operands(*command); !resolved.ok()) return print_failure(resolved.error().message());
  if (Status resolved = resolve_option_paths(*command); !resolved.ok()) {
    return print_usage_error(resolved.error().message());
  }
  return run(*command);
}

}  // namespace
}  // namespace flockfs

int main(int argc, char** argv) {
  // mount.flockfs starts us by descriptor, and before Linux 6.14 the kernel names such a process after its number.
  (void)::prctl(PR_SET_NAME, "flockfs");
  flockfs::fill_standard_descriptors();
  // A reader of our output who goes away must not take the mirror along.
  (void)std::signal(SIGPIPE, SIG_IGN);
  try {
    return flockfs::main_with(std::vector<std::string>(argv + (argc > 0 ? 1 : 0), argv + argc));
  } catch (const std::exception& failure) {
    return flockfs::print_failure(failure.what());
  }
}
