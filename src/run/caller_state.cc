#include "run/caller_state.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <optional>
#include <string_view>

#include "base/path.h"
#include "base/printable.h"

namespace flockfs {
namespace {

constexpr std::array<std::string_view, 3> kStandard = {"standard input", "standard output", "standard error"};

struct CloseDirectory {
  void operator()(DIR* directory) const { ::closedir(directory); }
};

// The open descriptors of this process; false if they cannot be told.
bool list_descriptors(std::vector<int>& found) {
  const std::unique_ptr<DIR, CloseDirectory> directory(::opendir("/proc/self/fd"));
  if (!directory) return false;
  while (const dirent* const entry = ::readdir(directory.get())) {
    if (entry->d_name[0] == '.') continue;
    const int fd = std::atoi(entry->d_name);
    if (fd != ::dirfd(directory.get())) found.push_back(fd);
  }
  return true;
}

void fill_standard_descriptors() {
  for (;;) {
    const int fd = ::open("/dev/null", O_RDWR | O_CLOEXEC);
    if (fd <= STDERR_FILENO && fd >= 0) continue;
    if (fd >= 0) ::close(fd);
    return;
  }
}

// What has no name in any file system: the kernel shows those of memfd_create(2) and their like as "/name (deleted)".
bool is_nameless(const struct stat& st, std::string_view path) {
  return st.st_nlink == 0 && path.find('/', 1) == std::string_view::npos && path.ends_with(" (deleted)");
}

// Where the descriptor's file or directory is, if that is where a mirror should be in between.
std::optional<std::string> past_a_mirror(int fd, const std::vector<std::string>& sources) {
  struct stat st {};
  if (::fstat(fd, &st) != 0 || (!S_ISREG(st.st_mode) && !S_ISDIR(st.st_mode))) return std::nullopt;
  std::error_code code;
  const std::string path = std::filesystem::read_symlink("/proc/self/fd/" + std::to_string(fd), code).string();
  if (code || is_nameless(st, path)) return std::nullopt;
  const bool met = std::ranges::any_of(sources, [&](const std::string& source) {
    return is_at_or_below(path, source) || (S_ISDIR(st.st_mode) && is_at_or_below(source, path));
  });
  return met ? std::optional(path) : std::nullopt;
}

}  // namespace

CallerState CallerState::take() {
  CallerState caller;
  caller.listed_ = list_descriptors(caller.descriptors_);
  sigset_t all;
  ::sigfillset(&all);
  // A fault of ours must end us.
  for (const int signal : {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGABRT, SIGSYS}) ::sigdelset(&all, signal);
  ::sigprocmask(SIG_BLOCK, &all, &caller.mask_);
  // Ignored, it would keep COMMAND's status from us.
  struct sigaction usual {};
  usual.sa_handler = SIG_DFL;
  ::sigaction(SIGCHLD, &usual, &caller.child_);
  fill_standard_descriptors();
  return caller;
}

void CallerState::give_back() const {
  ::sigaction(SIGCHLD, &child_, nullptr);
  ::sigprocmask(SIG_SETMASK, &mask_, nullptr);
}

void CallerState::close_descriptors() const {
  for (const int fd : descriptors_) {
    if (fd > STDERR_FILENO) ::close(fd);
  }
}

bool CallerState::ignores(int signal) const {
  struct sigaction action {};
  return ::sigaction(signal, nullptr, &action) == 0 && (action.sa_flags & SA_SIGINFO) == 0 &&
         action.sa_handler == SIG_IGN;
}

Status CallerState::check_descriptors(const std::vector<std::string>& sources,
                                      std::vector<std::string>& warnings) const {
  if (!listed_) return Error{0, "cannot read /proc/self/fd, to see which descriptors are inherited"};
  for (const int fd : descriptors_) {
    const auto path = past_a_mirror(fd, sources);
    if (!path) continue;
    const std::string where = "'" + escaped(*path) + "'";
    if (fd > STDERR_FILENO) {
      return Error{0, "descriptor " + std::to_string(fd) + " is open on " + where +
                          ", where COMMAND would not meet the mirror; close it"};
    }
    warnings.push_back(std::string(kStandard.at(static_cast<std::size_t>(fd))) + " is " + where +
                       ", opened before there was a mirror: without a lock");
  }
  return {};
}

}  // namespace flockfs
