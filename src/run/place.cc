#include "run/place.h"

#include <fcntl.h>
#include <linux/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <filesystem>
#include <string_view>
#include <utility>

#include "base/path.h"
#include "base/printable.h"
#include "base/unique_fd.h"

namespace flockfs {
namespace {

// What a program needs to live and what is no data: in a mirror of / the kernel's file systems are empty and device
// nodes dead, so the real ones are put there.
constexpr std::array<std::string_view, 3> kKernels = {"/dev", "/proc", "/sys"};

std::string quoted(const std::string& path) { return "'" + escaped(path) + "'"; }

bool is_kernels(const std::string& path) {
  return std::ranges::any_of(kKernels, [&](std::string_view kernels) { return is_at_or_below(path, kernels); });
}

dev_t device_of(const char* path) {
  struct stat st {};
  return ::stat(path, &st) == 0 ? st.st_dev : 0;
}

UniqueFd clone_mounts(const std::string& path) {
  return UniqueFd(static_cast<int>(
      ::syscall(SYS_open_tree, AT_FDCWD, path.c_str(), OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_RECURSIVE)));
}

Status go_to(const std::string& path) {
  if (::chdir(path.c_str()) == 0) return {};
  return errno_error("cannot enter the working directory " + quoted(path) + " anew, in the mirror");
}

}  // namespace

Result<Place> Place::here(const std::vector<std::string>& sources) {
  Place place;
  place.sources_ = sources;
  std::error_code code;
  // As the kernel shows it: with its name of before where it has been removed, while getcwd(3) fails.
  place.directory_ = std::filesystem::read_symlink("/proc/self/cwd", code).string();
  if (code) return Error{code.value(), "cannot tell the working directory (/proc/self/cwd)"};
  return place;
}

const Place::Mirror* Place::mirror_of(const std::string& path) const {
  const auto found =
      std::ranges::find_if(mirrors_, [&](const Mirror& mirror) { return is_at_or_below(path, mirror.source); });
  return found == mirrors_.end() ? nullptr : &*found;
}

// What is mounted over the root directory is reached by no path but this: ".." of the root is the root, and what is
// mounted there.
Status Place::enter_root(const Mirror& mirror) const {
  std::vector<std::pair<std::string, UniqueFd>> kept;
  for (const std::string_view name : kKernels) {
    const std::string path(name);
    if (device_of(path.c_str()) == device_of("/") || device_of(path.c_str()) == 0) continue;
    kept.emplace_back(path.substr(1), clone_mounts(path));
    if (!kept.back().second) return errno_error("cannot keep " + path);
  }
  if (::chdir("/..") != 0) return errno_error("cannot enter the mirror of /");
  if (device_of(".") != mirror.device) return Error{0, "cannot reach the mirror of /"};
  for (const auto& [name, mounts] : kept) {
    if (::syscall(SYS_move_mount, mounts.get(), "", AT_FDCWD, name.c_str(), MOVE_MOUNT_F_EMPTY_PATH) != 0) {
      return errno_error("cannot keep /" + name);
    }
  }
  if (::chroot(".") != 0) return errno_error("cannot change root into the mirror");
  return go_to(directory_);
}

Status Place::enter() const {
  for (const Mirror& mirror : mirrors_) {
    if (mirror.source != "/") continue;
    if (Status entered = enter_root(mirror); !entered) return entered;
  }
  for (const std::string& source : sources_) {
    const Mirror* const mirror = mirror_of(source);
    if (mirror == nullptr || device_of(source.c_str()) != mirror->device) {
      return Error{0, quoted(source) + " does not show its mirror"};
    }
  }
  const Mirror* const mirror = mirror_of(directory_);
  if (mirror == nullptr || (mirror->source == "/" && is_kernels(directory_))) return {};
  if (Status gone = go_to(directory_); !gone) return gone;
  if (device_of(".") != mirror->device) {
    return Error{0, "the working directory " + quoted(directory_) + " does not show its mirror"};
  }
  return {};
}

}  // namespace flockfs
