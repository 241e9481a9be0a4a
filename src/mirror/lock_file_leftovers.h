#pragma once

#include "tree/source.h"

namespace flockfs {

// Removes the lock files that mirrors of the same SOURCE left behind when they were killed: those that their records
// (LockFileRecord) name, and that are still the very objects that were made. What another one has put in their place,
// or written into, stays, and so does what belongs to a daemon that lives. To be called before the source is mirrored,
// by one thread. Never fails: what cannot be removed stays, with a line in the log where somebody might look for it.
void remove_leftover_lock_files(const Source& source);

}  // namespace flockfs
