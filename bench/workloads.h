#pragma once

#include <span>
#include <string_view>

namespace flockfs::bench {

// What follows a workload's name on the command line. Each workload prints its figures as one JSON object.
using Arguments = std::span<const std::string_view>;

// tree ROOT FILES PER_DIRECTORY SIZE: makes a tree of files of that many bytes, in directories of so many each.
void make_tree(Arguments arguments);

// open-read-close ROOT FIRST FILES PER_DIRECTORY PROCESSES LIMIT_MS: opens, reads and closes the files FIRST to FIRST +
// FILES - 1 of such a tree, shared out among the processes; ends early at the limit.
void open_read_close(Arguments arguments);

// read, write, random-read, random-write FILE BYTES STEP LIMIT_MS: goes through the first BYTES of FILE (which has
// them) in steps of STEP bytes; at random: as many steps as there are, anywhere. Writes replace what is there.
void sequential_read(Arguments arguments);
void sequential_write(Arguments arguments);
void random_read(Arguments arguments);
void random_write(Arguments arguments);

// mmap-read FILE BYTES: adds up every word of the first BYTES of a mapping of FILE.
void mapped_read(Arguments arguments);

// stat FILE TIMES: the latency of a statx(2) that no cache may answer: one round trip.
void forced_stat(Arguments arguments);

// wait SOURCE_FILE FILE UNRELATED shared|exclusive WAITERS STATS DAEMON open|flock: locks SOURCE_FILE exclusively, lets
// WAITERS processes open FILE (the same file by another path), measures how long STATS stats of UNRELATED take before
// and while they wait, unlocks, and measures how long it is until the last one has its lock. flock: each waiter asks
// for its lock itself, after opening. DAEMON: the process id of who serves FILE, or 0.
void waiting_opens(Arguments arguments);

// stall SOURCE_FILE FILE READERS TIMES open|flock: how long flock(LOCK_EX) on SOURCE_FILE takes while READERS processes
// open, read and close FILE over and over.
void writers_stall(Arguments arguments);

}  // namespace flockfs::bench
