#pragma once

#include <string>
#include <vector>

#include "base/log.h"
#include "mirror/mirror_config.h"

namespace flockfs {

class CallerState;

// What flockfs-run is to do. Plain data.
struct RunPlan {
  std::vector<std::string> sources;   // canonical
  std::vector<MirrorConfig> mirrors;  // of those that are in no other one, each over itself
  std::vector<std::string> command;   // and its arguments; not empty
  LogConfig log;
  bool quiet = false;             // no live line, no summary
  bool fail_if_unlocked = false;  // kRunUnlocked if a file was refused or opened without a lock
};

// What flockfs-run exits with where that is not COMMAND's status or 128 and the number of the signal that killed it;
// part of its interface.
enum RunExit : int {
  kRunUnlocked = 75,   // EX_TEMPFAIL of sysexits.h
  kRunFailure = 125,   // its own
  kRunCannot = 126,    // COMMAND cannot be run
  kRunNotFound = 127,  // COMMAND is not found
};

// Runs COMMAND and returns the exit status, everything being undone; messages go to stderr. REQUIRES: one thread only,
// which never ends before the process does: the mirrors and COMMAND die with it.
int run(const RunPlan& plan, const CallerState& caller);

// "flockfs-run: TEXT" on stderr. Returns `status`.
int say(int status, const std::string& text);

}  // namespace flockfs
