#pragma once

#include "mirror/core.h"
#include "mirror/mirror_state.h"

namespace flockfs {

// What Mirror::state() tells of files: who holds and who waits. `opens` has the opens' locks; `others`, if not null,
// the flock(2) calls of clients where those are locks of another kind. Reads /proc/locks if anybody waits.
void look_around(const Core& core, LockEngine& opens, LockEngine* others, MirrorState& state);

}  // namespace flockfs
