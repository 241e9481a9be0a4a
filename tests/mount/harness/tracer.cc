#include "harness/tracer.h"

#include <gtest/gtest.h>

#include <csignal>
#include <fstream>
#include <sstream>
#include <utility>

#include "harness/files.h"

namespace flockfs::test {
namespace {

std::vector<std::string> command_line(pid_t process, const std::vector<std::string>& options,
                                      const std::string& report) {
  std::vector<std::string> command{"strace", "-f", "-q", "-o", report, "-p", std::to_string(process)};
  command.insert(command.end(), options.begin(), options.end());
  return command;
}

// This file of /proc of each thread. A thread that ends meanwhile has an empty one.
std::vector<std::string> of_each_thread(pid_t process, const std::string& name) {
  const std::string task = "/proc/" + std::to_string(process) + "/task";
  std::vector<std::string> texts;
  for (const std::string& thread : list_dir(task)) {
    std::ifstream file(task + "/" + thread + "/" + name);
    std::ostringstream text;
    text << file.rdbuf();
    texts.push_back(text.str());
  }
  return texts;
}

}  // namespace

Tracer::Tracer(pid_t process, const std::vector<std::string>& options, std::string report)
    : report_(std::move(report)), strace_(command_line(process, options, report_)) {
  const auto attached = [&] {
    for (const std::string& status : of_each_thread(process, "status")) {
      if (status.find("TracerPid:\t0") != std::string::npos) return false;
    }
    return true;
  };
  EXPECT_TRUE(eventually(attached)) << strace_.err();
}

std::string Tracer::stop() {
  strace_.process().signal(SIGINT);
  EXPECT_NE(strace_.exit_code(), -1);
  return read_file(report_);
}

bool enters_call(pid_t process, int call_number, Millis time) {
  const std::string wanted = std::to_string(call_number) + " ";
  return eventually(
      [&] {
        for (const std::string& call : of_each_thread(process, "syscall")) {
          if (call.starts_with(wanted)) return true;
        }
        return false;
      },
      time);
}

}  // namespace flockfs::test
