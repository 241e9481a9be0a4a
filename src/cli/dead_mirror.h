#pragma once

#include <string>

#include "base/result.h"

namespace flockfs {

// Detaches what is mounted at `mountpoint` if it is a mirror of flockfs whose daemon has died (ENOTCONN), and the next
// one below it, if that is one, too: what is there afterwards can be mounted on. Anything else that is there, a mirror
// that answers before all, stays as it is. Returns how many there were. Only root may: EPERM.
Result<unsigned> detach_dead_mirrors(const std::string& mountpoint);

}  // namespace flockfs
