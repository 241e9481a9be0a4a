#!/bin/bash
# Installs what is missing, builds flockfs in every way that it must build, and runs all tests and checks.
#
#   sudo ./tests/run.sh
#
# Ends with ctest's summary; the exit status is not 0 if anything failed. Can be run again: it builds what changed and
# runs everything. What it does, each build in a directory of its own below build-tests/ (FLOCKFS_BUILD_ROOT):
#   gcc    g++, Release, warnings are errors          all tests
#   clang  clang++, -Wthread-safety, warnings too     unit tests
#   asan   address and undefined behaviour sanitizer  unit tests, and the daemon under the mount tests
#   tsan   thread sanitizer                           the same
#   lint   clang-format, clang-tidy, .ci/check-includes
#
# FLOCKFS_TEST_FULL=1: the full sizes instead of CI's (tests/full.sh names them). FLOCKFS_CTEST: further words for ctest,
# for example "-R gcc/Options".
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

# build NAME COMPILER TYPE [CMAKE_OPTION...]
build() {
  local name=$1 compiler=$2 type=$3
  shift 3
  cmake -S "$root" -B "$builds/$name" -G Ninja -DCMAKE_CXX_COMPILER="$compiler" -DCMAKE_BUILD_TYPE="$type" \
    -DFLOCKFS_TESTS=ON -DFLOCKFS_WERROR=ON "$@" &&
    "${no_aslr[@]}" cmake --build "$builds/$name" -j "$jobs"
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

sanitized=(-O1 -g1 -gz=none)
stage gcc build gcc g++ Release || true
stage clang build clang clang++ Release || true
stage asan build asan g++ Sanitized -DFLOCKFS_SANITIZE=address,undefined -DCMAKE_CXX_FLAGS="${sanitized[*]}" || true
stage tsan build tsan clang++ Sanitized -DFLOCKFS_SANITIZE=thread -DCMAKE_CXX_FLAGS="${sanitized[*]}" || true

plan=$builds/plan.json
python3 - "$root" "$builds" "$reports" "$jobs" "${no_aslr[@]}" >"$plan" <<'PLAN'
import json
import sys

root, builds, reports, jobs, *no_aslr = sys.argv[1:]
asan = f"log_path={reports}/asan/report:detect_stack_use_after_return=1:strict_string_checks=1"
ubsan = f"print_stacktrace=1:log_path={reports}/asan/report"
tsan = f"log_path={reports}/tsan/report:second_deadlock_stack=1:suppressions={root}/.ci/tsan.supp"
json.dump({
    "builds": [
        {"name": "gcc", "dir": f"{builds}/gcc"},
        {"name": "clang", "dir": f"{builds}/clang", "only": "unit"},
        {"name": "asan", "dir": f"{builds}/asan", "only": "unit|mount", "slow": 3, "reports": f"{reports}/asan",
         "env": {"FLOCKFS_TEST_SLOW": "3", "ASAN_OPTIONS": asan, "UBSAN_OPTIONS": ubsan}},
        {"name": "tsan", "dir": f"{builds}/tsan", "only": "unit|mount", "slow": 5, "reports": f"{reports}/tsan",
         "prefix": no_aslr, "env": {"FLOCKFS_TEST_SLOW": "5", "TSAN_OPTIONS": tsan}},
    ],
    "checks": [
        {"name": "includes", "command": [f"{root}/.ci/check-includes"]},
        {"name": "format", "command": [f"{root}/.ci/lint", "format"]},
        {"name": "tidy", "command": [f"{root}/.ci/lint", "tidy", f"{builds}/clang"], "processors": int(jobs)},
    ],
}, sys.stdout, indent=1)
PLAN
"$root/.ci/merge-tests" "$builds" "$plan"

read -ra more <<<"${FLOCKFS_CTEST:-}"
status=0
ctest --test-dir "$builds" -j "$jobs" --output-on-failure "${more[@]}" </dev/null || status=$?
exit "$status"
