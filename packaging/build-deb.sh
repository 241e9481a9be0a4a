#!/bin/bash
# Builds Debian packages of this tree: packaging/build-deb.sh [OUTDIR]   (default: build-deb)
#
# Debian 12, 13 or newer; needs what packaging/install-deps.sh build and package install, and no root. The packages and
# lintian's silence are the result; anything that lintian calls an error or a warning is a failure. The version is that
# of CMakeLists.txt and "-1", with FLOCKFS_PACKAGE_SUFFIX (for example "~bookworm1") behind it.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
out=${1:-$root/build-deb}
fail() { printf 'build-deb.sh: %s\n' "$*" >&2; exit 1; }

for tool in dpkg-buildpackage dh lintian; do
  command -v "$tool" >/dev/null || fail "$tool is missing: run packaging/install-deps.sh package as root"
done
version=$("$root/packaging/version.sh")-1${FLOCKFS_PACKAGE_SUFFIX:-}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
tree=$work/flockfs-$version
mkdir "$tree"
"$root/packaging/list-sources.sh" |
  tar -C "$root" --null --ignore-failed-read -T - -cf - | tar -C "$tree" --no-same-owner -xf -
mv "$tree/packaging/debian" "$tree/debian"
cat >"$tree/debian/changelog" <<CHANGELOG
flockfs ($version) unstable; urgency=medium

  * What has changed is in /usr/share/doc/flockfs/changelog.gz.

 -- flockfs authors <flockfs@flockfs.invalid>  $(date -R -r "$root/CHANGELOG.md")
CHANGELOG

(cd "$tree" && dpkg-buildpackage --unsigned-source --unsigned-changes --build=binary -j"$(nproc)") >"$work/log" 2>&1 ||
  { tail -n 60 "$work/log" >&2; fail "dpkg-buildpackage failed"; }
lintian --fail-on error,warning --info "$work"/*.changes || fail "lintian has found something"
mkdir -p "$out"
rm -f "$out"/flockfs{,-dbgsym}_*.deb
cp "$work"/*.deb "$out/"
ls "$out"/*.deb
