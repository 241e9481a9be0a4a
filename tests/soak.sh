#!/bin/bash
# Processes on both sides of a mirror that open, lock, map, replace and hand on a few files at random, get killed and
# lose patience, for as long as you like. sudo ./tests/soak.sh [MINUTES]
#
# MINUTES (default 10) is the time for both ways of I/O together, with the kernel's passthrough and without. Ends with
# status 0 if nobody was ever in an exclusive section together with others, no file was seen half written, and in the
# end nothing was held, nothing waited, and the daemon was as small as at its start. tests/run.sh does it for ten
# seconds. FLOCKFS_SOAK_SEED=N (each run prints its own) repeats what the processes choose to do.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
build=${FLOCKFS_BUILD_ROOT:-$root/build-tests}/soak
minutes=${1:-10}

fail() { printf 'soak.sh: %s\n' "$*" >&2; exit 1; }

(($# <= 1)) || fail "one argument at most: MINUTES"
[[ $minutes =~ ^[0-9]+(\.[0-9]+)?$ ]] || fail "not a number of minutes: $minutes"
((EUID == 0)) || fail "the test mounts file systems: run me as root (sudo $0)"
[[ -e /dev/fuse ]] || modprobe fuse 2>/dev/null || true
[[ -r /dev/fuse ]] || fail "no /dev/fuse here: the test cannot mount"

"$root/packaging/install-deps.sh" test
flags=''
[[ $(g++ -dumpversion) != 12* ]] || flags=-Wno-restrict  # GCC bugs 105329, 105651
cmake -S "$root" -B "$build" -G Ninja -DCMAKE_BUILD_TYPE=Release -DCMAKE_CXX_FLAGS="$flags" -DFLOCKFS_TESTS=ON >/dev/null
cmake --build "$build" --target mount_tests
FLOCKFS_SOAK_MINUTES=$minutes exec "$build/tests/mount/mount_tests" --gtest_filter='*SoakTest*'
