#pragma once

#include <sys/types.h>

#include <cerrno>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

namespace flockfs::bench {

using Clock = std::chrono::steady_clock;

// Prints what failed, with errno's text, and ends the program with status 1.
[[noreturn]] void fail(std::string_view what);

// `what` if the condition does not hold, as fail().
void require(bool condition, std::string_view what);

[[nodiscard]] std::uint64_t to_number(std::string_view text);

[[nodiscard]] double seconds_since(Clock::time_point began);

// When a loop over many small operations is to end before its work is done. Looks at the clock only now and then.
class Limit {
 public:
  explicit Limit(std::uint64_t milliseconds) : end_(Clock::now() + std::chrono::milliseconds(milliseconds)) {}
  [[nodiscard]] bool reached(std::uint64_t operation) const {
    constexpr std::uint64_t kLookEvery = 64;
    return operation % kLookEvery == 0 && Clock::now() >= end_;
  }

 private:
  Clock::time_point end_;
};

constexpr auto kWaitDeadline = std::chrono::seconds(60);

// Until the condition holds; fails the program after the deadline.
template <typename Condition>
void wait_until(const char* what, Condition holds) {
  const auto end = Clock::now() + kWaitDeadline;
  while (!holds()) {
    errno = ETIMEDOUT;
    require(Clock::now() < end, what);
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
}

// Median, 99th percentile and largest of a series.
struct Summary {
  double median = 0;
  double p99 = 0;
  double most = 0;
};
[[nodiscard]] Summary summary_of(std::vector<double> values);

// Collects one line of JSON, a flat object of numbers, and prints it.
class Figures {
 public:
  Figures& add(std::string_view name, double value);
  Figures& add(std::string_view name, std::uint64_t value);
  void print() const;

 private:
  std::string text_;
};

// The path of file number `index` of a tree of directories with `per_directory` files each, relative to its root.
[[nodiscard]] std::string file_name(std::uint64_t index, std::uint64_t per_directory);
[[nodiscard]] std::string directory_name(std::uint64_t directory);

// Zeroed memory for `count` objects of T that child processes share; lives as long as the program.
[[nodiscard]] void* shared_memory(std::size_t bytes);
template <typename T>
[[nodiscard]] T* shared_array(std::size_t count) {
  T* const array = static_cast<T*>(shared_memory(count * sizeof(T)));
  std::uninitialized_value_construct_n(array, count);
  return array;
}

// Forks a child that runs `work` and exits 0; it dies with its parent.
template <typename Work>
pid_t start_child(Work work);

// The child's end: fails the program if it did not exit 0.
void expect_success(pid_t child);

// The parts of start_child that are the same for all work.
[[nodiscard]] pid_t fork_with_parent();
[[noreturn]] void exit_child();

template <typename Work>
pid_t start_child(Work work) {
  const pid_t child = fork_with_parent();
  if (child != 0) return child;
  work();
  exit_child();
}

}  // namespace flockfs::bench
