// mount.flockfs(8): what mount(8) starts for the file system types flockfs and fuse.flockfs.

#include <unistd.h>

#include <cstdio>
#include <exception>
#include <string>
#include <vector>

#include "cli/command_line.h"
#include "cli/daemonize.h"
#include "cli/paths.h"
#include "helper_arguments.h"
#include "start_flockfs.h"

namespace flockfs {
namespace {

constexpr const char* kHelp =
    "Usage: mount.flockfs SOURCE MOUNTPOINT [-fnrsvw] [-N NS] [-o OPTIONS] [-t TYPE]\n"
    "Mount a locking mirror of SOURCE on behalf of mount(8)\n"
    "\n"
    " -f          check everything, mount nothing\n"
    " -n          ignored, there is no mtab\n"
    " -r, -w      as -o ro, -o rw\n"
    " -s          ignore unknown options\n"
    " -v          say what is done\n"
    " -N NS       mount in the mount namespace of a process id or file NS\n"
    " -o OPTIONS  options of flockfs(8) and mount(8), separated by commas\n"
    " -t TYPE     flockfs or fuse.flockfs\n"
    " -h, --help\n"
    " -V, --version\n"
    "\n"
    "Exit status: as mount(8): 0 mounted, 1 usage, 2 system error, 32 failure\n";

MountExit complain(MountExit code, const std::string& message) {
  (void)std::fprintf(stderr, "mount.flockfs: %s\n", message.c_str());
  if (code == kMountUsage) (void)std::fputs("Try 'flockfs --help' for more information.\n", stderr);
  return code;
}

MountExit print(const std::string& text) {
  if (std::fputs(text.c_str(), stdout) >= 0 && std::fflush(stdout) == 0) return kMountOk;
  return complain(kMountSystem, errno_error("cannot write").message());
}

// All that can be known to fail without mounting.
MountExit check(const std::vector<std::string>& flockfs_arguments) {
  auto command = parse_command_line({flockfs_arguments.begin() + 1, flockfs_arguments.end()}, ::geteuid());
  if (!command.ok()) return complain(kMountUsage, command.error().message());
  if (Status found = resolve_operands(*command); !found.ok()) return complain(kMountFailed, found.error().message());
  if (Status found = resolve_option_paths(*command); !found.ok()) return complain(kMountUsage, found.error().message());
  return kMountOk;
}

// For -v: each argument in quotes, as a shell would take them.
void print_call(const std::vector<std::string>& arguments) {
  std::string text = "mount.flockfs:";
  for (const std::string& argument : arguments) {
    text += " '";
    for (const char c : argument) text += c == '\'' ? std::string("'\\''") : std::string(1, c);
    text += "'";
  }
  (void)std::fprintf(stderr, "%s\n", text.c_str());
}

MountExit main_with(const std::vector<std::string>& arguments) {
  const auto parsed = parse_helper_arguments(arguments);
  if (!parsed.ok()) return complain(kMountUsage, parsed.error().message());
  if (parsed->request == HelperArguments::Request::kHelp) return print(kHelp);
  if (parsed->request == HelperArguments::Request::kVersion) return print("mount." + version_text());
  const std::vector<std::string> call = parsed->flockfs_arguments();
  if (parsed->verbose) print_call(call);
  const auto flockfs = find_flockfs();
  if (!flockfs.ok() && !parsed->fake) return complain(kMountSystem, flockfs.error().message());
  if (parsed->mount_namespace) {
    const Status entered = enter_mount_namespace(*parsed->mount_namespace);
    if (!entered.ok()) return complain(kMountSystem, entered.error().message());
  }
  return parsed->fake ? check(call) : run_flockfs(*flockfs, call);
}

}  // namespace
}  // namespace flockfs

int main(int argc, char** argv) {
  flockfs::fill_standard_descriptors();
  try {
    return flockfs::main_with(std::vector<std::string>(argv + (argc > 0 ? 1 : 0), argv + argc));
  } catch (const std::exception& failure) {
    return flockfs::complain(flockfs::kMountSystem, failure.what());
  }
}
