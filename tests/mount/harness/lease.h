#pragma once

#include <string>

#include "harness/child.h"

namespace flockfs::test {

// A process that holds a write lease on a file of the source, says "leased", and does not give way: open(2) of it
// blocks anybody, for 45 seconds at most. Told to "give way" it does and says "given way".
[[nodiscard]] Child lease_holder(const std::string& source_path);

// Somebody waits for this file's lease to end.
[[nodiscard]] bool lease_is_breaking(const std::string& source_path);

}  // namespace flockfs::test
