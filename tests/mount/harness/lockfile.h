#pragma once

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace flockfs::test {

// Covers /run/flockfs, where mirrors keep the records of their lock files, with a file system of this test's own.
void cover_record_directory();
// The names of the records in it.
[[nodiscard]] std::vector<std::string> lock_file_records();

// There is no such name any more, or soon is not: RELEASE follows close(2).
[[nodiscard]] ::testing::AssertionResult goes_away(const std::string& path);

}  // namespace flockfs::test
