#include "cli/paths.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "cli/option_error.h"

namespace flockfs {
namespace {

namespace fs = std::filesystem;

struct Free {
  void operator()(char* text) const { std::free(text); }
};

// What helps with an error of the mount point's path.
std::string hint_for(int code) { return code == ENOTCONN ? " (a mount that died? unmount it first)" : ""; }

}  // namespace

Status make_canonical_directory(std::string_view role, std::string& path) {
  const std::string named = std::string(role) + " '" + path + "'";
  const std::unique_ptr<char, Free> resolved(::realpath(path.c_str(), nullptr));
  // Asks the file system itself: from what it remembers the kernel answers for a mount whose daemon has died, too.
  struct statx status {};
  if (!resolved || ::statx(AT_FDCWD, resolved.get(), AT_STATX_FORCE_SYNC, STATX_TYPE, &status) != 0) {
    const Error error = errno_error(named);
    return Error{0, error.message() + hint_for(error.code)};
  }
  if (!S_ISDIR(status.stx_mode)) return Error{ENOTDIR, named};
  path = resolved.get();
  return {};
}

Result<std::string> make_canonical(const std::filesystem::path& path) {
  std::error_code code;
  std::string resolved = fs::weakly_canonical(path, code).string();
  if (code) return Error{code.value(), "'" + path.string() + "'"};
  while (resolved.size() > 1 && resolved.ends_with('/')) resolved.pop_back();
  return resolved;
}

namespace {

std::string outside_source(const std::string& path, const std::string& resolved, const std::string& source) {
  const std::string message = "'" + path + "' is outside SOURCE '" + source + "'";
  return resolved == path ? message : message + " (it is '" + resolved + "')";
}

Status resolve_below_source(std::string_view option, const std::string& source, std::vector<std::string>& paths) {
  for (std::string& path : paths) {
    auto resolved = make_canonical(fs::path(source) / path);  // "/" keeps a path that is absolute
    if (!resolved.ok()) return option_error(option, resolved.error().message());
    if (!is_at_or_below(*resolved, source)) return option_error(option, outside_source(path, *resolved, source));
    path = std::move(resolved).value();
  }
  return {};
}

Status resolve_log_file(const std::string& mountpoint, std::string& path) {
  std::error_code code;
  const fs::path absolute = fs::absolute(path, code);
  if (code) return option_error("log_file", Error{code.value(), "'" + path + "'"}.message());
  auto resolved = make_canonical(absolute);
  if (!resolved.ok()) return option_error("log_file", resolved.error().message());
  if (is_at_or_below(*resolved, mountpoint)) {
    return option_error("log_file", "'" + path + "' is below MOUNTPOINT; flockfs would wait for itself");
  }
  path = std::move(resolved).value();
  return {};
}

}  // namespace

Status resolve_operands(CommandLine& command) {
  if (Status source = make_canonical_directory("source", command.mirror.source); !source.ok()) return source;
  return make_canonical_directory("mountpoint", command.mirror.mountpoint);
}

Status resolve_option_paths(CommandLine& command) {
  MirrorConfig& mirror = command.mirror;
  if (Status done = resolve_below_source("prefix", mirror.source, mirror.prefixes); !done.ok()) return done;
  if (Status done = resolve_below_source("exclude", mirror.source, mirror.excludes); !done.ok()) return done;
  if (command.log.target != LogTarget::kFile) return {};
  return resolve_log_file(mirror.mountpoint, command.log.file);
}

}  // namespace flockfs
