#!/bin/bash
# Builds an RPM package of this tree: packaging/build-rpm.sh [OUTDIR]   (default: build-rpm)
#
# Where rpm does not know what is installed (on Debian), FLOCKFS_RPMBUILD=--nodeps lets it try all the same.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
out=${1:-$root/build-rpm}
fail() { printf 'build-rpm.sh: %s\n' "$*" >&2; exit 1; }

command -v rpmbuild >/dev/null || fail "rpmbuild is missing"
version=$("$root/packaging/version.sh")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$work/SOURCES"
"$root/packaging/list-sources.sh" |
  tar -C "$root" --null --ignore-failed-read -T - --transform "s,^,flockfs-$version/," -czf "$work/SOURCES/flockfs-$version.tar.gz"
read -ra options <<<"${FLOCKFS_RPMBUILD:-}"
rpmbuild -bb "${options[@]}" --define "_topdir $work" --define "flockfs_version $version" \
  "$root/packaging/rpm/flockfs.spec" >"$work/log" 2>&1 || { tail -n 60 "$work/log" >&2; fail "rpmbuild failed"; }
mkdir -p "$out"
rm -f "$out"/flockfs-*.rpm
cp "$work"/RPMS/*/*.rpm "$out/"
ls "$out"/*.rpm
