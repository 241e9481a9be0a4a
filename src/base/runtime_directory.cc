#include "base/runtime_directory.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <string>

namespace flockfs {
namespace {

constexpr const char* kName = "flockfs";

// /run, or what the session manager gives a user in its place (XDG Base Directory Specification: absolute, the user's
// own, nobody else's).
Result<UniqueFd> open_parent(std::string_view purpose) {
  const bool root = ::geteuid() == 0;
  const char* const mine = std::getenv("XDG_RUNTIME_DIR");
  const std::string path = root ? "/run" : mine != nullptr ? mine : "";
  if (path.empty() || path.front() != '/') {
    return Error{ENOENT, "no directory for " + std::string(purpose) + " (set XDG_RUNTIME_DIR)"};
  }
  UniqueFd fd(::open(path.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
  if (!fd) return errno_error("cannot open " + path);
  struct stat st {};
  if (::fstat(fd.get(), &st) != 0) return errno_error("cannot stat " + path);
  if (st.st_uid != ::geteuid() || (st.st_mode & (S_IWGRP | S_IWOTH)) != 0) {
    return Error{EPERM, path + ": others may write there"};
  }
  return fd;
}

}  // namespace

Result<UniqueFd> open_runtime_directory(Missing missing, std::string_view purpose) {
  const std::string of(purpose);
  auto parent = open_parent(purpose);
  if (!parent) return parent.error();
  if (missing == Missing::kMake && ::mkdirat(parent->get(), kName, 0700) != 0 && errno != EEXIST) {
    return errno_error("cannot make the directory flockfs for " + of);
  }
  UniqueFd fd(::openat(parent->get(), kName, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
  struct stat st {};
  if (!fd || ::fstat(fd.get(), &st) != 0) return errno_error("cannot open the directory of " + of);
  if (st.st_uid != ::geteuid()) return Error{EPERM, "the directory of " + of + " is somebody else's"};
  if ((st.st_mode & 077) != 0 && ::fchmod(fd.get(), 0700) != 0) {
    return errno_error("cannot close the directory of " + of + " to others");
  }
  return fd;
}

}  // namespace flockfs
