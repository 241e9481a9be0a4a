#!/bin/bash
# Installs what flockfs needs on Debian, Ubuntu and their like. Does nothing, and asks no network, when nothing is
# missing.
#
#   packaging/install-deps.sh [build|demo|test|full|bench|package]
#
# build: compile and install flockfs. demo: also what packaging/try.sh runs. test: also what tests/run.sh runs. full:
# also what tests/full.sh runs. package: also what packaging/build-deb.sh runs. bench: what bench/run.sh runs; libfuse's passthrough_hp is built from Debian 13's source
# package of fuse3, got as described below, and goes to $FLOCKFS_DEPS_PREFIX/bin.
#
# libfuse3 >= 3.17 comes from the distribution where it has it. Where it does not (Debian 12 has 3.14), Debian 13's
# own source package is fetched from the Debian mirror that this machine already uses (or from FLOCKFS_DEBIAN_MIRROR,
# a URL: for Ubuntu, which has no Debian mirror), its signature is checked with debian-archive-keyring, and it is built
# as a static library below $FLOCKFS_DEPS_PREFIX (default /usr/local/lib/flockfs-deps), where flockfs's CMakeLists.txt
# looks by itself. The distribution's package is left alone.
set -euo pipefail

fuse_minimum=3.17
prefix=${FLOCKFS_DEPS_PREFIX:-/usr/local/lib/flockfs-deps}
what=${1:-build}

fail() { printf 'install-deps.sh: %s\n' "$*" >&2; exit 1; }

(($# <= 1)) || fail "one set at most (build, demo, test, full, bench or package)"
[[ $prefix == /* ]] || fail "FLOCKFS_DEPS_PREFIX is not an absolute path: $prefix"

packages=(g++ cmake make pkg-config libboost-program-options-dev libspdlog-dev libfmt-dev libcap-dev
          nlohmann-json3-dev)
demo=(tar procps util-linux mount python3)
test=(libgtest-dev libgmock-dev clang clang-format clang-tidy libclang-rt-dev ninja-build git strace gdb rsync cpio zip
      gzip perl busybox-static attr acl libcap2-bin e2fsprogs xfsprogs btrfs-progs bindfs util-linux-extra
      python3-whisper graphite-carbon python3-setuptools sqlite3
      # For their setlock, chpst, lckdo, s6-setlock: without what they recommend none of them starts a service.
      daemontools runit moreutils s6
      ed vim-tiny restic borgbackup systemd
      # Man pages and completions; jq is in an example.
      mandoc zsh fish jq)
package=(build-essential debhelper lintian dpkg-dev git)
full=(debootstrap rpm)
bench=(ninja-build git rsync bindfs findutils)
case $what in
  build) ;;
  demo) packages+=("${demo[@]}") ;;
  test) packages+=("${demo[@]}" "${test[@]}") ;;
  full) packages+=("${demo[@]}" "${test[@]}" "${package[@]}" "${full[@]}") ;;
  package) packages+=("${package[@]}") ;;
  bench) packages+=("${demo[@]}" "${bench[@]}") ;;
  *) fail "unknown set '$what' (build, demo, test, full, bench or package)" ;;
esac

command -v apt-get >/dev/null ||
  fail "no apt-get here: install a C++20 compiler, CMake, libfuse3 >= $fuse_minimum, Boost.Program_options, spdlog," \
       "fmt and nlohmann-json with this system's own package manager, then run cmake as README.md says"

installed() { [[ $(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null) == installed ]]; }

# apt-get that asks nothing and waits for another one's lock.
apt() { DEBIAN_FRONTEND=noninteractive apt-get -q -o DPkg::Lock::Timeout=300 "$@" </dev/null; }

updated=no
update_once() {
  [[ $updated == no ]] || return 0
  apt update >&2 || fail "apt-get update failed (its message is above)"
  updated=yes
}

# Installs those of its arguments that are missing.
install_missing() {
  local missing=() package
  for package; do
    installed "$package" || missing+=("$package")
  done
  ((${#missing[@]})) || return 0
  ((EUID == 0)) || fail "not root, and these packages are missing: ${missing[*]}"
  update_once
  apt -y --no-install-recommends install "${missing[@]}" >&2 || fail "apt-get could not install: ${missing[*]}"
}

have_fuse() { PKG_CONFIG_PATH=${1:-} pkg-config --atleast-version="$fuse_minimum" fuse3 2>/dev/null; }

# The first Debian mirror among the machine's own package sources (the security archive has no full suite).
debian_mirror() {
  if [[ ${FLOCKFS_DEBIAN_MIRROR:-} ]]; then
    printf '%s\n' "$FLOCKFS_DEBIAN_MIRROR"
  else
    apt-get indextargets --format '$(REPO_URI) $(ORIGIN) $(LABEL)' 'Created-By: Packages' |
      awk '$2 == "Debian" && $3 == "Debian" && !found { print $1; found = 1 }'
  fi
}

# Fetches and unpacks the source package below $work, by an apt configuration of its own. Its settings are given on the
# command line because that is what overrides every configuration file: unsigned or untrusted indexes are refused here
# whatever the machine allows elsewhere.
fetch_fuse() {
  local mirror=$1 keyring=/usr/share/keyrings/debian-archive-keyring.gpg
  mkdir -p "$work"/{lists/partial,cache/archives/partial,source}
  printf 'deb-src [signed-by=%s] %s trixie main\n' "$keyring" "$mirror" >"$work/sources.list"
  local options=(-o "Dir::Etc::SourceList=$work/sources.list" -o Dir::Etc::SourceParts=/dev/null
                 -o "Dir::State::Lists=$work/lists" -o "Dir::Cache=$work/cache" -o APT::Sandbox::User=root
                 -o Acquire::AllowInsecureRepositories=false -o Acquire::AllowWeakRepositories=false
                 -o Acquire::AllowDowngradeToInsecureRepositories=false -o APT::Get::AllowUnauthenticated=false
                 -o APT::Update::Error-Mode=any)
  cd "$work/source" && apt "${options[@]}" update && apt "${options[@]}" --download-only source fuse3/trixie &&
    dpkg-source -x fuse3_*.dsc fuse3
}

# Builds what fetch_fuse unpacked and copies it to $prefix, the file by which it is found last: an installation that was
# interrupted is done again.
install_fuse() {
  cd "$work/source/fuse3" &&
    meson setup "$work/build" --buildtype=release --default-library=static --prefix="$prefix" --libdir=lib \
      -Dutils=false -Dexamples=false -Dtests=false -Duseroot=false &&
    DESTDIR=$work/stage ninja -C "$work/build" install &&
    mv "$work/stage$prefix/lib/pkgconfig/fuse3.pc" "$work/fuse3.pc" &&
    mkdir -p "$prefix" && cp -R "$work/stage$prefix/." "$prefix/" && cp "$work/fuse3.pc" "$prefix/lib/pkgconfig/"
}

# Builds the one example that is a peer in bench/run.sh.
install_passthrough_hp() {
  cd "$work/source/fuse3" &&
    meson setup "$work/peer" --buildtype=release --default-library=static -Dutils=false -Dexamples=true -Dtests=false \
      -Duseroot=false &&
    ninja -C "$work/peer" example/passthrough_hp &&
    install -D "$work/peer/example/passthrough_hp" "$prefix/bin/passthrough_hp"
}

# Fetches Debian 13's fuse3 into $work, once.
work=''
get_fuse_source() {
  [[ ! $work ]] || return 0
  ((EUID == 0)) || fail "not root, and $1 is missing"
  umask 022
  install_missing dpkg-dev meson ninja-build libudev-dev debian-archive-keyring
  update_once
  local mirror
  mirror=$(debian_mirror)
  [[ $mirror ]] || fail "$1 is built from Debian 13's source package, and there is no Debian mirror among this" \
                        "machine's package sources (apt-get indextargets): name one in FLOCKFS_DEBIAN_MIRROR"
  work=$(mktemp -d)
  trap 'rm -rf "$work"' EXIT
  trap 'exit 130' INT
  trap 'exit 143' TERM HUP
  (fetch_fuse "$mirror") >"$work/log" 2>&1 ||
    { cat "$work/log" >&2; fail "could not get Debian 13's source package of fuse3 (the log is above)"; }
}

# Runs the function $1, which makes $2 of the source package.
build_of_fuse() {
  get_fuse_source "$2"
  ("$1") >"$work/log" 2>&1 || { cat "$work/log" >&2; fail "could not build $2 (the log is above)"; }
}

install_missing "${packages[@]}"
if ! have_fuse && ! have_fuse "$prefix/lib/pkgconfig"; then
  ((EUID == 0)) && update_once
  candidate=$(apt-cache policy libfuse3-dev | awk '$1 == "Candidate:" { print $2 }')
  if [[ $candidate && $candidate != '(none)' ]] && dpkg --compare-versions "$candidate" ge "$fuse_minimum"; then
    install_missing libfuse3-dev
  else
    build_of_fuse install_fuse "libfuse3 >= $fuse_minimum"
  fi
fi
have_fuse || have_fuse "$prefix/lib/pkgconfig" || fail "libfuse3 >= $fuse_minimum is still missing"
if [[ $what == bench && ! -x $prefix/bin/passthrough_hp ]]; then
  build_of_fuse install_passthrough_hp passthrough_hp
fi
