#pragma once

#include <cstdint>
#include <string>

#include "common.h"

namespace flockfs::bench {

// The latency in microseconds of `times` statx(2) calls on `path` that the kernel may not answer from what it knows.
[[nodiscard]] Summary stat_latency(const std::string& path, std::uint64_t times);

}  // namespace flockfs::bench
