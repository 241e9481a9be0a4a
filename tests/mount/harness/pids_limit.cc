#include "harness/pids_limit.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <fstream>
#include <stdexcept>
#include <vector>

#include "harness/connection.h"
#include "harness/deadline.h"
#include "harness/files.h"

namespace flockfs::test {
namespace {

// A file of a cgroup takes one write(2), and wants no truncation.
bool put(const std::string& path, const std::string& text) {
  const UniqueFd fd(::open(path.c_str(), O_WRONLY | O_CLOEXEC));
  return fd && ::write(fd.get(), text.data(), text.size()) == static_cast<ssize_t>(text.size());
}

// Where a hierarchy with the pids controller is mounted: its own in version 1, the only one in version 2.
std::vector<std::string> hierarchies() {
  std::vector<std::string> found;
  for (const MountEntry& mount : mount_table()) {
    const bool first = mount.type == "cgroup" && ("," + mount.super_options + ",").find(",pids,") != std::string::npos;
    if (first || mount.type == "cgroup2") found.push_back(mount.mountpoint);
    if (mount.type == "cgroup2") put(mount.mountpoint + "/cgroup.subtree_control", "+pids");
  }
  return found;
}

}  // namespace

std::unique_ptr<PidsLimit> PidsLimit::make() {
  for (const std::string& parent : hierarchies()) {
    const std::string path = parent + "/flockfs-test-" + std::to_string(::getpid());
    if (::mkdir(path.c_str(), 0755) != 0) continue;
    if (exists(path + "/pids.max")) return std::unique_ptr<PidsLimit>(new PidsLimit(parent, path));
    ::rmdir(path.c_str());
  }
  return nullptr;
}

PidsLimit::~PidsLimit() {
  std::ifstream processes(path_ + "/cgroup.procs");
  for (std::string process; processes >> process;) put(parent_ + "/cgroup.procs", process);
  (void)eventually([this] { return ::rmdir(path_.c_str()) == 0; });
}

void PidsLimit::confine(pid_t process) {
  if (!put(path_ + "/cgroup.procs", std::to_string(process))) throw std::runtime_error("no process moves to " + path_);
}

void PidsLimit::set(int most) {
  if (!put(path_ + "/pids.max", std::to_string(most))) throw std::runtime_error("no limit for " + path_);
}

void PidsLimit::lift() { put(path_ + "/pids.max", "max"); }

}  // namespace flockfs::test
