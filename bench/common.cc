#include "common.h"

#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace flockfs::bench {

void fail(std::string_view what) {
  const int error = errno;
  std::fprintf(stderr, "bench-workload: %.*s: %s\n", static_cast<int>(what.size()), what.data(), std::strerror(error));
  std::_Exit(1);
}

void require(bool condition, std::string_view what) {
  if (!condition) fail(what);
}

std::uint64_t to_number(std::string_view text) {
  std::uint64_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  errno = EINVAL;
  require(error == std::errc() && end == text.data() + text.size(), text);
  return number;
}

double seconds_since(Clock::time_point began) { return std::chrono::duration<double>(Clock::now() - began).count(); }

Summary summary_of(std::vector<double> values) {
  errno = ENODATA;
  require(!values.empty(), "nothing was measured");
  std::sort(values.begin(), values.end());
  return {values[values.size() / 2], values[(values.size() - 1) * 99 / 100], values.back()};
}

Figures& Figures::add(std::string_view name, double value) {
  char number[32];
  std::snprintf(number, sizeof number, "%.9g", value);
  text_.append(text_.empty() ? "{\"" : ", \"").append(name).append("\": ").append(number);
  return *this;
}

Figures& Figures::add(std::string_view name, std::uint64_t value) {
  text_.append(text_.empty() ? "{\"" : ", \"").append(name).append("\": ").append(std::to_string(value));
  return *this;
}

void Figures::print() const { std::printf("%s}\n", text_.c_str()); }

std::string directory_name(std::uint64_t directory) {
  char name[32];
  std::snprintf(name, sizeof name, "d%04llu", static_cast<unsigned long long>(directory));
  return name;
}

std::string file_name(std::uint64_t index, std::uint64_t per_directory) {
  char name[32];
  std::snprintf(name, sizeof name, "/f%04llu", static_cast<unsigned long long>(index % per_directory));
  return directory_name(index / per_directory) + name;
}

void* shared_memory(std::size_t bytes) {
  void* memory = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  require(memory != MAP_FAILED, "mmap of shared memory");
  return memory;
}

pid_t fork_with_parent() {
  const pid_t parent = ::getpid();
  const pid_t child = ::fork();
  require(child >= 0, "fork");
  if (child != 0) return child;
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (::getppid() != parent) std::_Exit(1);
  return 0;
}

void exit_child() { std::_Exit(0); }

void expect_success(pid_t child) {
  int status = 0;
  require(::waitpid(child, &status, 0) == child, "waitpid");
  errno = ECHILD;
  require(WIFEXITED(status) && WEXITSTATUS(status) == 0, "a child failed");
}

}  // namespace flockfs::bench
