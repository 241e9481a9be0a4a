#!/bin/bash
# Compares flockfs with the plain source, a bind mount, bindfs, passthrough_hp, and with a locking LD_PRELOAD library.
#
#   sudo ./bench/run.sh [--check] [--quick] [--json FILE] [--only WORKLOAD,...] [--preload LIB]   (--help: more)
#
# Installs what is missing, builds into build-bench/, measures in a temporary directory below /var/tmp, prints tables.
# docs/PERFORMANCE.md says what is measured and how. About half an hour (--quick: some minutes) of a machine that does
# nothing else. Ctrl-C at any time leaves nothing behind but the build.
#
# Exit status: 0 done (with --check: and no target missed), 1 a target was missed, 2 wrong usage, 3 not measured.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
build='' below=/var/tmp

fail() { printf 'bench: %s\n' "$*" >&2; exit 3; }

arguments=("$@")
while (($#)); do
  case $1 in
    -h | --help) exec python3 "$root/bench/bench.py" --help ;;
    --build) build=$(realpath -e -- "${2-}") || fail "no such directory: ${2-}" ;;
    --work) below=$(realpath -e -- "${2-}") || fail "no such directory: ${2-}" ;;
  esac
  shift
done
python3 -B "$root/bench/bench.py" "${arguments[@]}" --arguments-only || exit
((EUID == 0)) || fail "mounting needs root: sudo $0"
[[ -e /dev/fuse ]] || modprobe fuse 2>/dev/null || true
[[ -r /dev/fuse ]] || fail "no /dev/fuse here"

if [[ ! $build ]]; then
  build=$root/build-bench
  printf 'installing what is missing, and building into %s\n' "$build" >&2
  mkdir -p "$build"
  "$root/packaging/install-deps.sh" bench || fail "could not install what is needed"
  { cmake -S "$root" -B "$build" -G Ninja -DCMAKE_BUILD_TYPE=Release -DFLOCKFS_BENCH=ON &&
      cmake --build "$build" --target flockfs bench; } >"$build/log" 2>&1 </dev/null ||
    { tail -n 60 "$build/log" >&2; fail "could not build (the end of $build/log is above)"; }
fi

work='' measuring=''
clean_up() {
  trap '' INT TERM HUP
  # With the first process of the namespaces all others in them end, and all that is mounted there is gone.
  [[ ! $measuring ]] || { kill -KILL "$measuring" 2>/dev/null && wait "$measuring" 2>/dev/null; } || true
  if [[ $work ]]; then
    # What dies at this moment may still write.
    for ((try = 0; try < 50; ++try)); do
      rm -rf --one-file-system "$work" 2>/dev/null && break
      sleep 0.1
    done
  fi
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

work=$(mktemp -d "$below/flockfs-bench.XXXXXX")
status=0
unshare --mount --propagation private --pid --fork --kill-child --mount-proc \
  python3 -B "$root/bench/bench.py" "${arguments[@]}" --root "$root" --build "$build" --work "$work" \
  --passthrough-hp "${FLOCKFS_DEPS_PREFIX:-/usr/local/lib/flockfs-deps}/bin/passthrough_hp" </dev/null &
measuring=$!
wait "$measuring" || status=$?
measuring=''
exit "$status"
