#pragma once

#include <chrono>
#include <string_view>

#include "base/result.h"

namespace flockfs {

// "-1" where a duration may be without end. Negative, so compare before adding it to a time.
inline constexpr std::chrono::milliseconds kForever{-1};

// The longest duration that can be asked for; far from where deadlines overflow.
inline constexpr std::chrono::milliseconds kMaxDuration = std::chrono::hours(24 * 365);

enum class Forever { kRefused, kAllowed };

// A time as options give it: "N" milliseconds, "Ns" seconds, "Nmin" minutes with N a whole number from 0, at most
// kMaxDuration; "-1" is kForever where allowed. An Error's context says what is wrong with `text`, its code is 0.
Result<std::chrono::milliseconds> parse_duration(std::string_view text, Forever forever = Forever::kRefused);

// A plain number of seconds, fractions allowed, from 0 to kMaxDuration, as fuse(8) gives its timeouts.
Result<std::chrono::duration<double>> parse_seconds(std::string_view text);

}  // namespace flockfs
