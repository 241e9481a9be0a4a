// The loops of bench/run.sh whose time matters. Usage: bench-workload NAME ARGUMENT..., as in workloads.h.

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdio>
#include <string_view>
#include <vector>

#include "workloads.h"

namespace {

using flockfs::bench::Arguments;

struct Workload {
  std::string_view name;
  std::size_t arguments;
  void (*run)(Arguments);
};

constexpr std::array kWorkloads{
    Workload{"tree", 4, flockfs::bench::make_tree},
    Workload{"open-read-close", 6, flockfs::bench::open_read_close},
    Workload{"read", 4, flockfs::bench::sequential_read},
    Workload{"write", 4, flockfs::bench::sequential_write},
    Workload{"random-read", 4, flockfs::bench::random_read},
    Workload{"random-write", 4, flockfs::bench::random_write},
    Workload{"mmap-read", 2, flockfs::bench::mapped_read},
    Workload{"stat", 2, flockfs::bench::forced_stat},
    Workload{"wait", 8, flockfs::bench::waiting_opens},
    Workload{"stall", 5, flockfs::bench::writers_stall},
};

}  // namespace

int main(int argc, char** argv) {
  const std::vector<std::string_view> words(argv, argv + argc);
  const auto* const found = std::find_if(kWorkloads.begin(), kWorkloads.end(), [&words](const Workload& workload) {
    return words.size() == workload.arguments + 2 && words[1] == workload.name;
  });
  if (found == kWorkloads.end()) {
    std::fprintf(stderr, "bench-workload: no such workload, or the wrong number of arguments\n");
    return 2;
  }
  found->run(Arguments(words).subspan(2));
  return 0;
}
