#include "cli/daemonize.h"

#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <string_view>

namespace flockfs {
namespace {

// The report is one byte, the exit code, and the message after it. The daemon's end is all that keeps the pipe open, so
// the caller reads an end of file when the daemon dies, however it dies.

constexpr int kReportFd = 3;

bool write_all(int fd, std::string_view text) {
  while (!text.empty()) {
    const ssize_t written = ::write(fd, text.data(), text.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return false;
    text.remove_prefix(static_cast<std::size_t>(written));
  }
  return true;
}

std::string read_all(int fd) {
  std::string text;
  std::array<char, 4096> buffer{};
  for (;;) {
    const ssize_t got = ::read(fd, buffer.data(), buffer.size());
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return text;
    text.append(buffer.data(), static_cast<std::size_t>(got));
  }
}

StartOutcome failure(const std::string& message) { return {kExitFailure, message}; }

// The daemon ended without a report: what is known is how.
StartOutcome outcome_of_death(pid_t daemon) {
  const std::string when = " before the mirror was usable";
  int status = 0;
  while (::waitpid(daemon, &status, 0) < 0) {
    if (errno != EINTR) return failure("the daemon ended" + when);
  }
  if (WIFSIGNALED(status)) {
    const int signal = WTERMSIG(status);
    return failure("the daemon was killed by signal " + std::to_string(signal) + " (" + ::strsignal(signal) + ")" +
                   when);
  }
  return failure("the daemon ended with status " + std::to_string(WEXITSTATUS(status)) + when);
}

StartOutcome wait_for_daemon(pid_t daemon, int report) {
  const std::string text = read_all(report);
  if (text.empty()) return outcome_of_death(daemon);
  return {static_cast<ExitCode>(text[0]), text.substr(1)};
}

// Leaves the caller's session, directory and descriptors; what remains is `report`, now kReportFd, and the standard
// three.
UniqueFd become_daemon(UniqueFd report) {
  (void)::setsid();  // cannot fail in a child that was just forked
  // A daemon that stayed where it was started would keep that file system busy; "/" always exists.
  (void)::chdir("/");
  if (report.get() != kReportFd) {
    if (::dup3(report.get(), kReportFd, O_CLOEXEC) < 0) return {};
    report.reset(kReportFd);
  }
  (void)::close_range(kReportFd + 1, ~0U, 0);
  return report;
}

}  // namespace

void fill_standard_descriptors() {
  for (;;) {
    const int fd = ::open("/dev/null", O_RDWR);
    if (fd <= STDERR_FILENO && fd >= 0) continue;
    if (fd >= 0) ::close(fd);
    return;
  }
}

bool Startup::ready() {
  if (!report_) return true;
  const UniqueFd null(::open("/dev/null", O_RDWR | O_CLOEXEC));
  if (null) {
    for (const int fd : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO}) (void)::dup2(null.get(), fd);
  }
  const bool heard = write_all(report_.get(), std::string_view("\0", 1));
  report_.reset();
  return heard;
}

ExitCode Startup::fail(ExitCode code, const std::string& message) {
  if (report_) {
    (void)write_all(report_.get(), std::string{static_cast<char>(code)} + message);
    report_.reset();
  } else {
    (void)std::fprintf(stderr, "flockfs: %s\n", message.c_str());
  }
  return code;
}

std::variant<StartOutcome, Startup> start_in_background() {
  // A caller who ignores SIGCHLD would have the daemon's status thrown away.
  (void)std::signal(SIGCHLD, SIG_DFL);
  std::array<int, 2> ends{};
  if (::pipe2(ends.data(), O_CLOEXEC) != 0) return failure(errno_error("cannot make a pipe").message());
  UniqueFd reader(ends[0]);
  UniqueFd writer(ends[1]);
  const pid_t pid = ::fork();
  if (pid < 0) return failure(errno_error("cannot start the daemon").message());
  if (pid != 0) {
    writer.reset();
    return wait_for_daemon(pid, reader.get());
  }
  reader.reset();
  return Startup(become_daemon(std::move(writer)));
}

}  // namespace flockfs
