#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "base/unique_fd.h"
#include "common.h"
#include "workloads.h"

namespace flockfs::bench {
namespace {

enum class Kind { kRead, kWrite };
enum class Order { kSequential, kRandom };

ssize_t step_at(Kind kind, int fd, std::vector<char>& buffer, off_t at) {
  return kind == Kind::kRead ? ::pread(fd, buffer.data(), buffer.size(), at)
                             : ::pwrite(fd, buffer.data(), buffer.size(), at);
}

void go_through(Arguments arguments, Kind kind, Order order) {
  const std::string name(arguments[0]);
  const std::uint64_t bytes = to_number(arguments[1]);
  std::vector<char> buffer(to_number(arguments[2]), 'y');
  const std::uint64_t steps = bytes / buffer.size();
  const Limit limit(to_number(arguments[3]));
  std::minstd_rand random(1);  // the same places for everybody, and cheap
  std::uniform_int_distribution<std::uint64_t> anywhere(0, steps - 1);
  std::uint64_t done = 0;
  const auto began = Clock::now();
  {
    const UniqueFd fd(::open(name.c_str(), (kind == Kind::kRead ? O_RDONLY : O_WRONLY) | O_CLOEXEC));
    require(fd.valid(), name);
    while (done < steps) {
      const std::uint64_t step = order == Order::kSequential ? done : anywhere(random);
      const auto at = static_cast<off_t>(step * buffer.size());
      require(step_at(kind, fd.get(), buffer, at) == static_cast<ssize_t>(buffer.size()), name);
      // A large step is worth a look at the clock each time.
      ++done;
      if (limit.reached(buffer.size() >= std::size_t{64} * 1024 ? 0 : done)) break;
    }
  }
  const double seconds = seconds_since(began);
  Figures().add("operations", done).add("bytes", done * buffer.size()).add("seconds", seconds).print();
}

}  // namespace

void sequential_read(Arguments arguments) { go_through(arguments, Kind::kRead, Order::kSequential); }
void sequential_write(Arguments arguments) { go_through(arguments, Kind::kWrite, Order::kSequential); }
void random_read(Arguments arguments) { go_through(arguments, Kind::kRead, Order::kRandom); }
void random_write(Arguments arguments) { go_through(arguments, Kind::kWrite, Order::kRandom); }

void mapped_read(Arguments arguments) {
  const std::string name(arguments[0]);
  const std::uint64_t bytes = to_number(arguments[1]);
  const auto began = Clock::now();
  const UniqueFd fd(::open(name.c_str(), O_RDONLY | O_CLOEXEC));
  require(fd.valid(), name);
  void* const mapping = ::mmap(nullptr, bytes, PROT_READ, MAP_SHARED, fd.get(), 0);
  require(mapping != MAP_FAILED, name);
  const auto* const words = static_cast<const std::uint64_t*>(mapping);
  std::uint64_t sum = 0;
  for (std::uint64_t i = 0; i < bytes / sizeof *words; ++i) sum += words[i];
  ::munmap(mapping, bytes);
  const double seconds = seconds_since(began);
  // The sum is printed so that it has to be computed.
  Figures().add("bytes", bytes).add("seconds", seconds).add("sum", sum).print();
}

}  // namespace flockfs::bench
