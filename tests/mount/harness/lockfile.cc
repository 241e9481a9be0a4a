#include "harness/lockfile.h"

#include <sys/mount.h>
#include <sys/stat.h>

#include <cerrno>
#include <system_error>

#include "harness/deadline.h"
#include "harness/files.h"

namespace flockfs::test {

void cover_record_directory() {
  constexpr const char* kDirectory = "/run/flockfs";
  const bool there = ::mkdir(kDirectory, 0700) == 0 || errno == EEXIST;
  if (!there || ::mount("tmpfs", kDirectory, "tmpfs", 0, "mode=0700") != 0) {
    throw std::system_error(errno, std::generic_category(), kDirectory);
  }
}

std::vector<std::string> lock_file_records() {
  std::vector<std::string> names = list_dir("/run/flockfs");
  std::erase_if(names, [](const std::string& name) { return !name.starts_with("lockfiles."); });
  return names;
}

::testing::AssertionResult goes_away(const std::string& path) {
  if (eventually([&] { return !exists(path); })) return ::testing::AssertionSuccess();
  return ::testing::AssertionFailure() << path << " is still there";
}

}  // namespace flockfs::test
