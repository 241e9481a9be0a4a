#pragma once

#include <string>

namespace flockfs::test {

// Mount on an existing directory, for as long as the test's mount namespace lives; the errno, or 0.
[[nodiscard]] int mount_tmpfs(const std::string& path);
[[nodiscard]] int mount_overlay(const std::string& lower, const std::string& upper, const std::string& work,
                                const std::string& path);

}  // namespace flockfs::test
