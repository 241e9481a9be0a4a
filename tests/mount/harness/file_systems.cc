#include "harness/file_systems.h"

#include <sys/mount.h>

#include <cerrno>

namespace flockfs::test {

int mount_tmpfs(const std::string& path) {
  // As many files as one likes: by itself it has room for half as many as the machine has pages.
  return ::mount("tmpfs", path.c_str(), "tmpfs", 0, "mode=0755,nr_inodes=0") == 0 ? 0 : errno;
}

int mount_overlay(const std::string& lower, const std::string& upper, const std::string& work,
                  const std::string& path) {
  const std::string options = "lowerdir=" + lower + ",upperdir=" + upper + ",workdir=" + work;
  return ::mount("overlay", path.c_str(), "overlay", 0, options.c_str()) == 0 ? 0 : errno;
}

}  // namespace flockfs::test
