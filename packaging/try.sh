#!/bin/bash
# Shows what flockfs does, on this machine, and leaves nothing behind but the build and your archive.
#
#   sudo ./packaging/try.sh                    with a sample tree and writers that it makes itself
#   sudo ./packaging/try.sh DIR [ARCHIVE]      archives DIR through a read-only locking mirror into ARCHIVE (a tar file;
#                                              default: a new one in the current directory; nothing is overwritten)
#
# Installs what is missing, builds into build/, mounts a mirror below a temporary directory, runs tar on it, shows what
# was locked and who had to wait, unmounts. Can be run again. Ctrl-C at any time cleans up as well.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
flockfs=$root/build/bin/flockfs
sample=$root/packaging/try-sample.py
writers=3
archives=5        # of the mirror
plain_most=50     # of the plain source, until one is torn

say() { printf '%s\n' "$*"; }
fail() { printf 'try.sh: %s\n' "$*" >&2; exit 1; }
usage() { sed -n '2,10s/^# \{0,1\}//p' "$0"; }

case ${1-} in
  -h | --help) usage; exit 0 ;;
  --) shift ;;
esac
(($# <= 2)) || { usage >&2; exit 2; }
((EUID == 0)) || fail "mounting needs root: sudo $0"
dir='' archive=''
if (($#)); then
  dir=$(realpath -e -- "$1" 2>/dev/null) && [[ -d $dir ]] || fail "not a directory: $1"
  default=$PWD/$(basename -- "${dir/#\//root/}")-$(date +%Y%m%d-%H%M%S).tar
  archive=$(realpath -m -- "${2:-$default}")
  [[ ! -e $archive && ! -L $archive ]] || fail "exists already, and is not overwritten: $archive"
  [[ -d $(dirname -- "$archive") ]] || fail "no such directory: $(dirname -- "$archive")"
fi

# --- whatever happens, nothing is left running, mounted or lying about -----------------------------------------------
work='' pids=() unfinished=''

mounted() { findmnt -rn --mountpoint "$work/mirror" >/dev/null 2>&1; }

unmount() {
  local try
  for try in {1..50}; do
    mounted || return 0
    timeout 10 umount "$work/mirror" 2>/dev/null || sleep 0.1
  done
  timeout 10 umount -f -l "$work/mirror"
}

clean_up() {
  trap '' INT TERM HUP
  ((${#pids[@]} == 0)) || { kill "${pids[@]}" 2>/dev/null; wait "${pids[@]}" 2>/dev/null; } || true
  if [[ $work ]]; then
    unmount || true
    mounted || rm -rf --one-file-system "$work"
  fi
  [[ ! $unfinished ]] || rm -f -- "$unfinished"
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
trap 'exit 129' HUP

# --- install and build ---------------------------------------------------------------------------------------------
# quietly NAME COMMAND...: its output only if it fails.
quietly() {
  local began=$SECONDS
  printf '%-28s' "$1"
  shift
  "$@" >"$work/output" 2>&1 </dev/null || { say failed; cat "$work/output"; exit 1; }
  say "done ($((SECONDS - began)) s)"
}

# As the owner of the tree, so that no files of root's are left in it.
build() {
  local owner as=()
  owner=$(stat -c %u "$root/build" 2>/dev/null || stat -c %u "$root")
  ((owner == 0)) || as=(setpriv --reuid "$owner" --regid "$(stat -c %g "$root")" --clear-groups)
  "${as[@]}" cmake -S "$root" -B "$root/build" -DCMAKE_BUILD_TYPE=Release &&
    "${as[@]}" cmake --build "$root/build" -j "$(nproc)"
}

work=$(mktemp -d "${TMPDIR:-/tmp}/flockfs-try.XXXXXX")
mkdir "$work/mirror" "$work/source"
log=$work/log

quietly "Installing what is missing" "$root/packaging/install-deps.sh" demo
quietly "Building flockfs" build
[[ -e /dev/fuse ]] || modprobe fuse 2>/dev/null || true
[[ -e /dev/fuse ]] || fail "the kernel offers no /dev/fuse here"

# --- the mirror ----------------------------------------------------------------------------------------------------
# mirror SOURCE [OPTION...]: in a session of its own, so that Ctrl-C reaches it only through clean_up.
mirror() {
  local source=$1
  shift
  setsid -w "$flockfs" --log-file "$log" --log-level debug "$@" "$source" "$work/mirror"
}

count() { grep -c "event=$1 " "$log" || true; }

# The log's lines of event $1, at most $2 of them.
lines() { grep "event=$1 " "$log" | sed 's/^time=[^ ]* //' | head -n "$2" | sed 's/^/    /' || true; }

# The longest wait: "11.913 ms for /path".
longest_wait() {
  sed -n 's/.*event=lock path="\(.*\)" mode=.* wait_ms=\([0-9.]*\) .*/\2 ms for \1/p' "$log" | sort -rn | head -n 1
}

# From the daemon's log, once it has written all of it.
show_log() {
  local try
  for try in {1..100}; do
    ! grep -q 'event=unmounted ' "$log" || break
    sleep 0.1
  done
  say "What flockfs did meanwhile, by its log: $(count lock) files locked, $(count wait) times somebody had to wait."
  if (($(count wait))); then
    say "    (the longest wait: $(longest_wait))"
    lines wait 2
  fi
  lines lock 2
  lines unlock 2
}

# --- a directory of the user's -------------------------------------------------------------------------------------
# Runs tar in the background and tells every ten seconds what it is waiting for.
archive_directory() {
  local exclude=() path
  for path in "$archive" "$work"; do
    [[ $path != "${dir%/}"/* ]] || exclude+=("--exclude=.${path#"${dir%/}"}")
  done
  unfinished=$archive
  (umask 077 && set -C && : >"$archive")
  tar --create --auto-compress --file="$archive" --force-local --directory="$work/mirror" --anchored --no-wildcards \
    "${exclude[@]}" . &
  pids+=($!)
  local ticks=0 status=0
  while kill -0 "${pids[-1]}" 2>/dev/null; do
    sleep 0.1
    ((++ticks % 100)) || say "  (tar is still at it; the last wait:$(lines wait 1000000 | tail -n 1 | tr -s ' '))"
  done
  wait "${pids[-1]}" || status=$?
  unset 'pids[-1]'
  ((status <= 1)) || fail "tar failed (exit status $status)"
  unfinished=''
  [[ ! ${SUDO_UID:-} ]] || chown "$SUDO_UID:${SUDO_GID:-0}" "$archive"
}

if [[ $dir ]]; then
  say
  say "Mirroring $dir, read-only: whatever tar opens there is locked (shared) while it reads."
  mirror "$dir" -o ro
  archive_directory
  unmount
  say "  $archive: $(tar --force-local -tvf "$archive" | grep -c ^- || true) files, $(du -h "$archive" | cut -f1)"
  say
  show_log
  exit 0
fi

# --- the sample ----------------------------------------------------------------------------------------------------
python3 "$sample" make "$work/source"
for ((writer = 0; writer < writers; ++writer)); do
  python3 "$sample" write "$work/source" "$writer" &
  pids+=($!)
done
say
say "A sample tree: $(ls "$work/source" | wc -l) files, and $writers writers that keep rewriting them under flock(2)."
say
cd "$work"

say "  tar of the plain source, since tar knows nothing of locks:"
for ((run = 1, torn = 0; run <= plain_most && !torn; ++run)); do
  tar -cf plain.tar -C source . 2>/dev/null || true # "file changed as we read it": that is the point
  python3 "$sample" check plain.tar >verdict || torn=$run
done
say "    $(<verdict)"
((torn <= 1)) || say "    (that is archive number $torn; those before it were whole by luck)"

say "  tar of the mirror, $archives times, after \"flockfs source mirror\":"
mirror "$work/source"
for ((run = 1; run <= archives; ++run)); do
  tar -cf "mirror-$run.tar" -C mirror .
done
unmount
whole=yes
python3 "$sample" check mirror-*.tar >verdict || whole=no
say "    $(<verdict)"
say
show_log
say
if [[ $whole == no ]]; then
  fail "a file in an archive of the mirror is torn: this must never be"
elif ((!torn)); then
  fail "none of $plain_most archives of the plain source was torn: this machine proves nothing this time"
fi
say "Every file archived through the mirror is whole. Unmounted; everything is cleaned up."
say "Your own directory: sudo $0 DIR"
