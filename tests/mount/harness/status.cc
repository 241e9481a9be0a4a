#include "harness/status.h"

#include <sys/mount.h>
#include <sys/stat.h>

#include <algorithm>
#include <system_error>
#include <utility>

namespace flockfs::test {

void cover_run() {
  if (::mount("tmpfs", "/run", "tmpfs", 0, "mode=0755") != 0) {
    throw std::system_error(errno, std::generic_category(), "/run");
  }
}

std::vector<std::string> status_sockets() {
  if (!exists("/run/flockfs")) return {};
  std::vector<std::string> names = list_dir("/run/flockfs");
  std::erase_if(names, [](const std::string& name) { return name.find("status.") == std::string::npos; });
  return names;
}

ProgramResult run_status(std::vector<std::string> arguments, const ProgramSetup& setup) {
  arguments.insert(arguments.begin(), status_program());
  return run_program(arguments, setup);
}

Json status_of(const std::string& target) {
  const ProgramResult result = run_status({"--json", target});
  EXPECT_EQ(result.exit_code, 0) << result;
  Json status = Json::parse(result.out, nullptr, false);
  EXPECT_FALSE(status.is_discarded()) << result;
  return status.is_discarded() ? Json() : status;
}

Json status_when(const std::string& target, const std::function<bool(const Json&)>& wanted) {
  Json status;
  (void)eventually([&] {
    status = status_of(target);
    return wanted(status);
  });
  return status;
}

Json entry_of(const Json& list, pid_t pid) {
  for (const Json& entry : list) {
    if (entry.at("pid") == pid) return entry;
  }
  return {};
}

MountedMirror& MirrorWithStatusTest::mount(MirrorSetup setup) {
  MountedMirror& mirror = MirrorTest::mount(std::move(setup));
  const std::string end = "." + std::to_string(mirror.daemon());
  EXPECT_TRUE(eventually([&] {
    const auto names = status_sockets();
    return std::any_of(names.begin(), names.end(), [&](const std::string& name) { return name.ends_with(end); });
  }));
  return mirror;
}

}  // namespace flockfs::test
