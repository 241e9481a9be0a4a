#include "stats.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <vector>

#include "workloads.h"

namespace flockfs::bench {

Summary stat_latency(const std::string& path, std::uint64_t times) {
  std::vector<double> microseconds;
  microseconds.reserve(times);
  for (std::uint64_t i = 0; i < times; ++i) {
    struct statx st {};
    const auto began = Clock::now();
    require(::statx(AT_FDCWD, path.c_str(), AT_STATX_FORCE_SYNC, STATX_BASIC_STATS, &st) == 0, path);
    microseconds.push_back(seconds_since(began) * 1e6);
  }
  return summary_of(std::move(microseconds));
}

void forced_stat(Arguments arguments) {
  const std::uint64_t times = to_number(arguments[1]);
  const auto began = Clock::now();
  const Summary latency = stat_latency(std::string(arguments[0]), times);
  Figures()
      .add("operations", times)
      .add("seconds", seconds_since(began))
      .add("median_us", latency.median)
      .add("p99_us", latency.p99)
      .print();
}

}  // namespace flockfs::bench
