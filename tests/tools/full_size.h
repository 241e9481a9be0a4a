#pragma once

#include <cstdlib>

namespace flockfs::test {

// What tests/full.sh asks for, where CI does with less.
[[nodiscard]] inline bool full_size() { return std::getenv("FLOCKFS_TEST_FULL") != nullptr; }

}  // namespace flockfs::test
