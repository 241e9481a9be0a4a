#!/bin/bash
# Installs what flockfs needs on Debian, Ubuntu and their like. Does nothing when there is nothing to do.
#
#   packaging/install-deps.sh [build|demo|test]
#
# build: compile and install flockfs. demo: also what packaging/try.sh runs. test: also what tests/run.sh runs.
#
# libfuse3 >= 3.17 comes from the distribution where it has it. Where it does not (Debian 12 has 3.14), Debian 13's
# own source package is fetched from the mirror that this machine already uses, its signature is checked with
# debian-archive-keyring, and it is built as a static library below $FLOCKFS_DEPS_PREFIX (default
# /usr/local/lib/flockfs-deps), where flockfs's CMakeLists.txt looks by itself. The distribution's package is left
# alone.
set -euo pipefail

fuse_minimum=3.17
prefix=${FLOCKFS_DEPS_PREFIX:-/usr/local/lib/flockfs-deps}
what=${1:-build}

fail() { printf 'install-deps.sh: %s\n' "$*" >&2; exit 1; }

packages=(g++ cmake make pkg-config libboost-program-options-dev libspdlog-dev libfmt-dev nlohmann-json3-dev libcap-dev)
demo=(tar procps util-linux python3)
test=(libgtest-dev libgmock-dev clang clang-format clang-tidy libclang-rt-dev ninja-build git strace gdb rsync cpio zip gzip
      perl busybox-static attr acl e2fsprogs xfsprogs btrfs-progs bindfs util-linux-extra python3-whisper graphite-carbon
      python3-setuptools)
case $what in
  build) ;;
  demo) packages+=("${demo[@]}") ;;
  test) packages+=("${demo[@]}" "${test[@]}") ;;
  *) fail "unknown set '$what' (build, demo or test)" ;;
esac

command -v apt-get >/dev/null ||
  fail "no apt-get here: install a C++20 compiler, CMake, libfuse3 >= $fuse_minimum, Boost.Program_options, spdlog," \
       "fmt, nlohmann-json and libcap with this system's own package manager, then run cmake as README.md says"

installed() { [[ $(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null) == installed ]]; }

updated=no
update_once() {
  [[ $updated == no ]] || return 0
  apt-get -q update >&2 || fail "apt-get update failed (its message is above)"
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
  DEBIAN_FRONTEND=noninteractive apt-get -q -y --no-install-recommends install "${missing[@]}" >&2 ||
    fail "apt-get could not install: ${missing[*]}"
}

have_fuse() { PKG_CONFIG_PATH=${1:-} pkg-config --atleast-version="$fuse_minimum" fuse3 2>/dev/null; }

# The first Debian mirror among the machine's own package sources (the security archive has no full suite).
debian_mirror() {
  apt-get indextargets --format '$(REPO_URI) $(ORIGIN) $(LABEL)' 'Created-By: Packages' |
    awk '$2 == "Debian" && $3 == "Debian" { print $1; exit }'
}

build_fuse() {
  ((EUID == 0)) || fail "not root, and libfuse3 >= $fuse_minimum is missing"
  install_missing dpkg-dev meson ninja-build libudev-dev debian-archive-keyring
  update_once
  local mirror keyring=/usr/share/keyrings/debian-archive-keyring.gpg
  mirror=$(debian_mirror)
  [[ $mirror ]] || fail "no Debian mirror among this machine's package sources (apt-get indextargets)," \
                        "and the distribution's libfuse3 is older than $fuse_minimum"
  work=$(mktemp -d)
  trap 'rm -rf "$work"' EXIT
  mkdir -p "$work"/{lists/partial,cache/archives/partial,source}
  printf 'deb-src [signed-by=%s] %s trixie main\n' "$keyring" "$mirror" >"$work/sources.list"
  cat >"$work/apt.conf" <<CONF
Dir::Etc::SourceList "$work/sources.list";
Dir::Etc::SourceParts "/dev/null";
Dir::State::Lists "$work/lists";
Dir::Cache "$work/cache";
APT::Sandbox::User "root";
CONF
  (
    export APT_CONFIG=$work/apt.conf
    cd "$work/source"
    apt-get -q update && apt-get -q --download-only source fuse3/trixie && dpkg-source -x fuse3_*.dsc fuse3
  ) >"$work/log" 2>&1 || { cat "$work/log" >&2; fail "could not get Debian 13's source package of fuse3 from $mirror"; }
  (
    cd "$work/source/fuse3" &&
    meson setup "$work/build" --buildtype=release --default-library=static --prefix="$prefix" --libdir=lib \
      -Dutils=false -Dexamples=false -Dtests=false -Duseroot=false &&
    ninja -C "$work/build" install
  ) >"$work/log" 2>&1 || { cat "$work/log" >&2; fail "could not build fuse3 (the log is above)"; }
}

install_missing "${packages[@]}"
if ! have_fuse && ! have_fuse "$prefix/lib/pkgconfig"; then
  candidate=$(apt-cache policy libfuse3-dev | awk '$1 == "Candidate:" { print $2 }')
  if [[ $candidate && $candidate != '(none)' ]] && dpkg --compare-versions "$candidate" ge "$fuse_minimum"; then
    install_missing libfuse3-dev
  else
    build_fuse
  fi
fi
have_fuse || have_fuse "$prefix/lib/pkgconfig" || fail "libfuse3 >= $fuse_minimum is still missing"
