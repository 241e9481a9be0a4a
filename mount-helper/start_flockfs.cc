#include "start_flockfs.h"

#include <fcntl.h>
#include <sched.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <filesystem>
#include <system_error>

#include "cli/exit_code.h"

namespace flockfs {
namespace {

constexpr int kExecFailed = 126;

UniqueFd open_program(const std::string& path) { return UniqueFd(::open(path.c_str(), O_PATH | O_CLOEXEC)); }

[[noreturn]] void exec_flockfs(const UniqueFd& flockfs, std::vector<std::string> arguments) {
  std::vector<char*> argv;
  argv.reserve(arguments.size() + 1);
  for (std::string& argument : arguments) argv.push_back(argument.data());
  argv.push_back(nullptr);
  (void)::fexecve(flockfs.get(), argv.data(), environ);
  (void)std::fprintf(stderr, "mount.flockfs: %s\n", errno_error("cannot start flockfs").message().c_str());
  ::_exit(kExecFailed);
}

MountExit translate(int status) {
  if (WIFSIGNALED(status)) {
    (void)std::fprintf(stderr, "mount.flockfs: flockfs was killed by signal %d\n", WTERMSIG(status));
    return kMountSystem;
  }
  switch (WEXITSTATUS(status)) {
    case kExitOk:
      return kMountOk;
    case kExitFailure:
      return kMountFailed;
    case kExitUsage:
      return kMountUsage;
    default:
      return kMountSystem;
  }
}

}  // namespace

Result<UniqueFd> find_flockfs() {
  std::error_code ignored;
  const auto self = std::filesystem::read_symlink("/proc/self/exe", ignored);
  const std::string beside = (self.parent_path().parent_path() / "bin" / "flockfs").string();
  const std::string configured = FLOCKFS_BINDIR "/flockfs";
  if (!self.empty()) {
    if (UniqueFd found = open_program(beside)) return found;
  }
  if (UniqueFd found = open_program(configured)) return found;
  return errno_error("cannot find flockfs, neither as '" + beside + "' nor as '" + configured + "'");
}

Status enter_mount_namespace(const std::string& name) {
  const bool is_pid = !name.empty() && std::ranges::all_of(name, [](char c) { return c >= '0' && c <= '9'; });
  const std::string path = is_pid ? "/proc/" + name + "/ns/mnt" : name;
  const UniqueFd target(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!target) return errno_error("cannot open mount namespace '" + path + "'");
  if (::setns(target.get(), CLONE_NEWNS) != 0) return errno_error("cannot enter mount namespace '" + path + "'");
  return {};
}

MountExit run_flockfs(const UniqueFd& flockfs, const std::vector<std::string>& arguments) {
  (void)std::signal(SIGCHLD, SIG_DFL);  // ignored, it would keep the status from us
  const pid_t child = ::fork();
  if (child < 0) {
    (void)std::fprintf(stderr, "mount.flockfs: %s\n", errno_error("cannot start flockfs").message().c_str());
    return kMountSystem;
  }
  if (child == 0) exec_flockfs(flockfs, arguments);
  int status = 0;
  while (::waitpid(child, &status, 0) < 0) {
    if (errno != EINTR) return kMountSystem;
  }
  return translate(status);
}

}  // namespace flockfs
