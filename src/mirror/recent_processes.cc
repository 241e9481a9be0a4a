#include "mirror/recent_processes.h"

#include <fcntl.h>
#include <unistd.h>

#include <charconv>
#include <string_view>

namespace flockfs {
namespace {

constexpr std::int64_t kBetweenNs = 20'000'000;
// Longer ago the numbers may have gone round once: 32,768 of them last for three seconds at 10,000 processes a second.
constexpr std::int64_t kTrustedNs = 1'000'000'000;
constexpr std::size_t kMostNumbers = 256;

std::string_view read_at_start(int fd, char* bytes, std::size_t size) {
  const ssize_t got = fd < 0 ? -1 : ::pread(fd, bytes, size, 0);
  return got > 0 ? std::string_view(bytes, static_cast<std::size_t>(got)) : std::string_view{};
}

std::optional<pid_t> number_at_end(std::string_view text) {
  while (!text.empty() && text.back() == '\n') text.remove_suffix(1);
  text.remove_prefix(text.find_last_of(' ') + 1);
  pid_t number = 0;
  const auto [stop, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc{} || stop != text.data() + text.size()) return std::nullopt;
  return number;
}

}  // namespace

std::vector<pid_t> numbers_between(pid_t before, pid_t last, pid_t most) {
  std::vector<pid_t> numbers;
  if (last < before) {
    for (pid_t number = before + 1; number <= most; ++number) numbers.push_back(number);
    before = 0;
  }
  for (pid_t number = before + 1; number <= last; ++number) numbers.push_back(number);
  return numbers;
}

RecentProcesses::RecentProcesses() : loadavg_(::open("/proc/loadavg", O_RDONLY | O_CLOEXEC)) {
  const UniqueFd most(::open("/proc/sys/kernel/pid_max", O_RDONLY | O_CLOEXEC));
  char bytes[32];
  most_ = number_at_end(read_at_start(most.get(), bytes, sizeof bytes)).value_or(0);
}

// "0.20 0.18 0.12 1/80 11206" (proc(5)).
std::optional<pid_t> RecentProcesses::last_given() const {
  char bytes[128];
  return number_at_end(read_at_start(loadavg_.get(), bytes, sizeof bytes));
}

void RecentProcesses::remember(std::int64_t now_ns) {
  if (!moments_.empty() && now_ns - moments_.back().at_ns < kBetweenNs) return;
  while (!moments_.empty() && now_ns - moments_.front().at_ns > kTrustedNs) moments_.pop_front();
  if (const auto last = last_given()) moments_.push_back({now_ns, *last});
}

std::optional<std::vector<pid_t>> RecentProcesses::since(std::int64_t moment_ns, std::int64_t now_ns) const {
  const Moment* start = nullptr;
  for (const Moment& moment : moments_) {
    if (moment.at_ns <= moment_ns) start = &moment;
  }
  if (start == nullptr || most_ == 0 || now_ns - start->at_ns > kTrustedNs) return std::nullopt;
  const auto last = last_given();
  if (!last) return std::nullopt;
  // pid_max may be raised at run time, and a number be given out again soon after the turn: both only add numbers here.
  const pid_t count = *last >= start->last ? *last - start->last : most_ - start->last + *last;
  if (count < 0 || static_cast<std::size_t>(count) > kMostNumbers) return std::nullopt;
  return numbers_between(start->last, *last, most_);
}

}  // namespace flockfs
