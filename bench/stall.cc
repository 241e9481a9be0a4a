#include <fcntl.h>
#include <signal.h>
#include <sys/file.h>
#include <unistd.h>

#include <atomic>
#include <cstdint>
#include <string>
#include <thread>
#include <vector>

#include "base/unique_fd.h"
#include "common.h"
#include "workloads.h"

namespace flockfs::bench {
namespace {

[[noreturn]] void read_for_ever(const std::string& file, bool own_flock, std::atomic<std::uint64_t>& passes) {
  std::vector<char> buffer(std::size_t{64} * 1024);
  for (;; ++passes) {
    const UniqueFd fd(::open(file.c_str(), O_RDONLY | O_CLOEXEC));
    require(fd.valid(), file);
    if (own_flock) require(::flock(fd.get(), LOCK_SH) == 0, "flock");
    while (::read(fd.get(), buffer.data(), buffer.size()) > 0) continue;
  }
}

// How long each of so many locks took, in milliseconds.
std::vector<double> lock_often(const std::string& source, std::uint64_t times) {
  const UniqueFd fd(::open(source.c_str(), O_RDWR | O_CLOEXEC));
  require(fd.valid(), source);
  std::vector<double> milliseconds;
  for (std::uint64_t i = 0; i < times; ++i) {
    std::this_thread::sleep_for(std::chrono::microseconds(1000 + i * 617 % 1000));  // not in step with the readers
    const auto asked = Clock::now();
    require(::flock(fd.get(), LOCK_EX) == 0, "flock");
    milliseconds.push_back(seconds_since(asked) * 1e3);
    require(::flock(fd.get(), LOCK_UN) == 0, "unlock");
  }
  return milliseconds;
}

}  // namespace

void writers_stall(Arguments arguments) {
  const std::string source(arguments[0]);
  const std::string file(arguments[1]);
  const std::uint64_t readers = to_number(arguments[2]);
  const std::uint64_t times = to_number(arguments[3]);
  const bool own_flock = arguments[4] == "flock";
  auto& passes = *shared_array<std::atomic<std::uint64_t>>(1);
  std::vector<pid_t> children;
  for (std::uint64_t i = 0; i < readers; ++i) {
    children.push_back(start_child([&] { read_for_ever(file, own_flock, passes); }));
  }
  wait_until("the readers do not read", [&] { return passes > readers; });
  const auto began = Clock::now();
  const std::uint64_t before = passes;
  const Summary stall = summary_of(lock_often(source, times));
  const double seconds = seconds_since(began);
  const std::uint64_t done = passes - before;
  for (const pid_t child : children) ::kill(child, SIGKILL);
  Figures()
      .add("passes", done)
      .add("seconds", seconds)
      .add("median_ms", stall.median)
      .add("p99_ms", stall.p99)
      .add("most_ms", stall.most)
      .print();
}

}  // namespace flockfs::bench
