#pragma once

#include <chrono>

namespace flockfs {

// RELEASE comes some time after close(2) has returned (DESIGN 4.7), so a lock found taken may be one that its client
// has given back already. Whoever may not wait for a holder looks again for so long, this often.
inline constexpr auto kCloseLimit = std::chrono::milliseconds(20);
inline constexpr auto kCloseLook = std::chrono::milliseconds(1);
// Looks that are made whatever the time: on a busy machine a thread may get no processor for longer than the limit.
inline constexpr int kFewestLooks = 20;

}  // namespace flockfs
