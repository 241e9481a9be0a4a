#!/bin/bash
# Installs what is missing, builds flockfs in every way that it must build, and runs all tests and checks.
#
#   sudo ./tests/run.sh
#
# Ends with ctest's summary; the exit status is not 0 if anything failed. Can be run again: it builds what changed and
# runs everything. What it does, each build in a directory of its own below build-tests/ (FLOCKFS_BUILD_ROOT):
#   gcc    g++, Release                               everything; all tests
#   asan   address and undefined behaviour sanitizer  programs and unit tests; asan-daemon/ and
#   tsan   thread sanitizer                           tsan-daemon/ are gcc's mount tests of these programs
#   lint   clang-format, clang-tidy, .ci/check-includes
# Warnings are errors with g++ and with clang++, which builds the sanitized ones and checks the mutexes' annotations
# (-Wthread-safety). A mount test that exists with the kernel's passthrough and without runs without it on the sanitized
# daemons, which then do the I/O themselves; at full size both, and the real programs of tests/tools too, but no more of
# each than in CI.
#
# FLOCKFS_TEST_FULL=1: the full sizes instead of CI's (tests/full.sh names them). FLOCKFS_CTEST: further words for
# ctest, for example "-R gcc/".
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
builds=${FLOCKFS_BUILD_ROOT:-$root/build-tests}
jobs=$(nproc)

fail() { printf 'run.sh: %s\n' "$*" >&2; exit 1; }

((EUID == 0)) || fail "the tests mount file systems: run me as root (sudo $0)"
[[ -e /dev/fuse ]] || modprobe fuse 2>/dev/null || true
[[ -r /dev/fuse ]] || fail "no /dev/fuse here: the tests cannot mount"

# Runs a stage with its output in a log; says how long it took. A stage that fails shows the end of its log and stops
# nothing: its test B/build will fail.
stage() {
  local name=$1 began=$SECONDS status=0
  shift
  "$@" >"$builds/$name.log" 2>&1 </dev/null || status=$?
  ((status == 0)) || tail -n 60 "$builds/$name.log"
  printf '%-22s %4d s%s\n' "$name" $((SECONDS - began)) "$( ((status == 0)) || echo "   FAILED, see $builds/$name.log")"
  return "$status"
}

# build NAME COMPILER TYPE CXXFLAGS TARGETS [CMAKE_OPTION...]
build() {
  local name=$1 compiler=$2 type=$3 flags=$4 targets=$5
  shift 5
  # Split into words on purpose: the targets.
  # shellcheck disable=SC2086
  cmake -S "$root" -B "$builds/$name" -G Ninja -DCMAKE_CXX_COMPILER="$compiler" -DCMAKE_BUILD_TYPE="$type" \
    -DCMAKE_CXX_FLAGS="$flags" -DFLOCKFS_TESTS=ON "$@" &&
    "${no_aslr[@]}" cmake --build "$builds/$name" -j "$jobs" --target $targets -- -k 0
}

# The thread sanitizer's runtime wants its address ranges free; where the kernel shuffles more than it can bear, without
# shuffling (inherited by all that a test starts, the daemon included).
no_aslr=()
if (($(cat /proc/sys/vm/mmap_rnd_bits 2>/dev/null || echo 28) > 28)) && setarch "$(uname -m)" -R true 2>/dev/null; then
  no_aslr=(setarch "$(uname -m)" -R)
fi

mkdir -p "$builds"
"$root/packaging/install-deps.sh" test || fail "could not install what is needed"

# Reports of the sanitizers go to files, one for each process: whoever runs it, and whatever becomes of its stderr. Kept
# apart from the builds because the daemon may run as a user who cannot reach those.
reports=$(mktemp -d /tmp/flockfs-reports.XXXXXX)
trap 'rm -rf "$reports"' EXIT
chmod 755 "$reports"
install -d -m 1777 "$reports/asan" "$reports/tsan"

# What is sanitized: the programs and the unit tests. The mount tests' own code only starts and watches the daemon.
ours="src/all mount-helper/all tests/unit/all"
# g++ 12 sees overlaps in its own std::string that cannot be (GCC bugs 105329, 105651).
gcc_flags=''
[[ $(g++ -dumpversion) != 12* ]] || gcc_flags=-Wno-restrict
stage gcc build gcc g++ Release "$gcc_flags" all -DFLOCKFS_WERROR=ON -DFLOCKFS_BENCH=ON || true
sanitize() { build "$1" clang++ Sanitized "" "$ours" -DFLOCKFS_WERROR=ON -DFLOCKFS_BENCH=ON -DFLOCKFS_SANITIZE="$2"; }
stage asan sanitize asan address,undefined || true
stage tsan sanitize tsan thread || true

plan=$builds/plan.json
python3 - "$root" "$builds" "$reports" "$ours" "${FLOCKFS_TEST_FULL:-}" "${no_aslr[@]}" >"$plan" <<'PLAN'
import json
import sys

root, builds, reports, ours, full, *no_aslr = sys.argv[1:]
asan = f"log_path={reports}/asan/report:detect_stack_use_after_return=1:strict_string_checks=1"
ubsan = f"print_stacktrace=1:log_path={reports}/asan/report"
tsan = f"log_path={reports}/tsan/report:second_deadlock_stack=1:suppressions={root}/.ci/tsan.supp"


def sanitized(name, slow, prefix, env):
    """The unit tests of a build, and the mount tests of its daemon."""
    env = {"FLOCKFS_TEST_SLOW": slow, **env}
    binaries = {"FLOCKFS_BIN": f"{builds}/{name}/bin/flockfs",
                "FLOCKFS_RUN_BIN": f"{builds}/{name}/bin/flockfs-run",
                "MOUNT_FLOCKFS_BIN": f"{builds}/{name}/sbin/mount.flockfs",
                "FLOCKFS_STATUS_BIN": f"{builds}/{name}/bin/flockfs-status"}
    # At CI's sizes: what sanitizers see comes of what is done, not of how often.
    common = {"slow": slow, "prefix": ["env", "-u", "FLOCKFS_TEST_FULL", *prefix]}
    return [
        {"name": name, "dir": f"{builds}/{name}", "target": ours.split(), "kinds": ["unit"], "env": env, **common},
        {"name": f"{name}-daemon", "dir": f"{builds}/gcc", "target": [],
         "kinds": ["mount", "run", "tools"] if full else ["mount", "run"],
         **({} if full else {"leave_out": r"/Passthrough( |$)"}),
         "env": {**env, **binaries}, "reports": f"{reports}/{name}", "after": name, **common},
    ]


json.dump({
    "builds": [
        {"name": "gcc", "dir": f"{builds}/gcc", "target": ["all"], "kinds": ["unit", "mount", "run", "tools"]},
        *sanitized("asan", 3, [], {"ASAN_OPTIONS": asan, "UBSAN_OPTIONS": ubsan}),
        *sanitized("tsan", 5, no_aslr, {"TSAN_OPTIONS": tsan}),
    ],
    "checks": [
        {"name": "includes", "command": [f"{root}/.ci/check-includes"]},
        {"name": "format", "command": [f"{root}/.ci/lint", "format"]},
        {"name": "tidy", "command": [f"{root}/.ci/lint", "tidy", f"{builds}/asan"]},
    ],
}, sys.stdout, indent=1)
PLAN
"$root/.ci/merge-tests" "$builds" "$plan"

read -ra more <<<"${FLOCKFS_CTEST:-}"
status=0
# Most tests wait for something most of the time; what computes (clang-tidy) gives way to them.
ctest --test-dir "$builds" -j $((2 * jobs)) --output-on-failure "${more[@]}" </dev/null || status=$?
exit "$status"
