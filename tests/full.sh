#!/bin/bash
# Everything at full size; under 90 minutes on two cores. sudo ./tests/full.sh
#
# What tests/run.sh does, with FLOCKFS_TEST_FULL=1, and then what CI leaves out altogether. CI does less here:
#   NoFileIsTornInArchivesOfTheMirror              200 tar runs; CI 20
#   CopiesOfTheMirrorOpenAndAgreeWithThemselves    200 copies of carbon's files; CI 40
#   AnySizeTest                                    1,000,000 files; CI 20,000
#   LargeDirectoryTest                             a directory of 1,000,000 entries; CI 10,000
#   lint/tidy                                      all checks, the analyzer's usual depth; CI less (.ci/lint)
#   SqliteTest                                     1,000 transactions of each process; CI 100
#   CloseThenTryTest                               100,000 opens; CI 1,000
#   SecondRunOfResticReadsOnlyWhatHasChanged       CI not at all, but the same with borg
#   EveryLapseOfAnUpgradeIsRefusedAndCounted       10,000 upgrades; CI 500
#   WithReopenWaitThreadsExcludeEachOther          8 x 1,000 increments; CI 8 x 100
#   EveryCallReturnsOrWaitsAsTheContractSays       2 x 2,500 schedules; CI 2 x 150
#   tests/mutate.sh                                known bugs put in, each must be seen; CI not at all
#   HundredsOfWaitingOpensHarmNobody               1,000 waiting opens; CI 400
#   NoThreadsTest                                  1,000 waits for 1,000 files without a thread; CI 100
#   the mount tests                                20 times in a row, and once with every core busy; CI once
#   the tests of real programs (tests/tools)       with the sanitized daemons too (at CI's sizes); CI with the plain one
#   mount tests of the sanitized daemons           with the kernel's passthrough and without; CI without, where both exist
#   fresh Debian 12 and 13 (.ci/fresh-install)     demonstration, installation, mount(8), all builds; CI not at all
#   tests/packages.sh                              packages, also on fresh Debian 12 and 13; CI not at all
#
# Says at the end which stage took how long; the exit status is not 0 if one failed.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
builds=${FLOCKFS_BUILD_ROOT:-$root/build-tests}
export FLOCKFS_TEST_FULL=1

((EUID == 0)) || { echo "full.sh: run me as root (sudo $0)" >&2; exit 1; }
"$root/packaging/install-deps.sh" full

failed=0 summary=()
stage() {
  local name=$1 began=$SECONDS verdict=passed
  shift
  printf '\n==== %s\n' "$name"
  "$@" </dev/null || verdict=FAILED failed=1
  summary+=("$(printf '%-40s %-7s %5d s' "$name" "$verdict" $((SECONDS - began)))")
}

# At CI's sizes: what is to be seen here comes of doing it often.
mount_tests() { env -u FLOCKFS_TEST_FULL ctest --test-dir "$builds/gcc" -L mount -j $((2 * $(nproc))) --output-on-failure "$@"; }

fresh_end() { wait "$fresh" || { tail -n 60 "$fresh_log"; return 1; }; }

busy_mount_tests() (
  burners=()
  trap 'kill "${burners[@]}"' EXIT
  for ((core = 0; core < $(nproc); ++core)); do
    while :; do :; done &
    burners+=($!)
  done
  mount_tests
)

stage "tests/run.sh at full size" "$root/tests/run.sh"
# The mount tests wait most of the time: what the fresh systems compute meanwhile is a load that they must bear.
fresh_systems() { for suite in bookworm trixie; do nice "$root/.ci/fresh-install" "$suite" || return; done; }
fresh_log=$builds/fresh.log
fresh_systems >"$fresh_log" 2>&1 </dev/null &
fresh=$!
stage "mount tests, 20 times" mount_tests --repeat until-fail:20 --quiet --output-log "$builds/loop.log"
stage "fresh Debian 12 and 13 (the rest)" fresh_end
stage "mount tests, every core busy" busy_mount_tests
stage "packages" "$root/tests/packages.sh"
stage "known bugs are seen" "$root/tests/mutate.sh"

printf '\n'
printf '%s\n' "${summary[@]}"
exit "$failed"
