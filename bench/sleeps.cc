#include "sleeps.h"

#include <filesystem>
#include <fstream>
#include <string>

#include "common.h"

namespace flockfs::bench {
namespace {

constexpr std::string_view kWorker = "flockfs-worker";

struct Thread {
  std::string name;
  char state = 'X';
  std::uint64_t sleeps = 0;
};

// Of /proc/PID/status or one like it. A thread that is gone has slept no more.
Thread read_status(const std::string& path) {
  std::ifstream status(path);
  Thread thread;
  std::string key;
  std::string value;
  while (status >> key && std::getline(status >> std::ws, value)) {
    if (key == "Name:") thread.name = value;
    if (key == "State:") thread.state = value.front();
    if (key == "voluntary_ctxt_switches:") thread.sleeps = to_number(value);
  }
  return thread;
}

}  // namespace

Sleeps sleeps_of(pid_t process) {
  Sleeps sleeps;
  if (process == 0) return sleeps;
  std::error_code ignored;
  const std::string tasks = "/proc/" + std::to_string(process) + "/task";
  for (const auto& task : std::filesystem::directory_iterator(tasks, ignored)) {
    const Thread thread = read_status(task.path() / "status");
    (thread.name == kWorker ? sleeps.workers : sleeps.others) += thread.sleeps;
  }
  return sleeps;
}

Rest rest_of(pid_t process) {
  const Thread thread = read_status("/proc/" + std::to_string(process) + "/status");
  return {thread.state == 'S' || thread.state == 'D', thread.sleeps};
}

}  // namespace flockfs::bench
