#!/bin/bash
# The packages: sudo ./tests/packages.sh   (a stage of tests/full.sh)
#
# Builds the Debian package and the RPM package here, whose lists of files must agree, and has the Debian package built,
# installed, tested, upgraded under a mirror in use and purged on fresh systems of Debian 12 and 13.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

"$root/packaging/build-deb.sh" "$work/deb"
FLOCKFS_RPMBUILD=--nodeps "$root/packaging/build-rpm.sh" "$work/rpm"

# Without what the formats themselves want elsewhere: documentation, debugging symbols, compression of man pages.
plain() { sed -e 's,\.gz$,,' | grep -v -e ^/usr/share/doc -e ^/usr/share/licenses -e ^/usr/lib/.build-id -e ^/usr/share/lintian | sort; }
dpkg-deb --fsys-tarfile "$work"/deb/flockfs_*.deb | tar -t | sed -n 's,^\./\(.*[^/]\)$,/\1,p' | plain >"$work/deb.list"
for package in "$work"/rpm/flockfs-[0-9]*.rpm; do
  [[ $package == *-debug* ]] || rpm -qp --qf '[%{FILEMODES:perms} %{FILENAMES}\n]' "$package"
done | sed -n 's,^[^d][^ ]* ,,p' | plain >"$work/rpm.list"
diff "$work/deb.list" "$work/rpm.list" || { echo "packages.sh: the packages' lists of files differ (deb <, rpm >)" >&2; exit 1; }
echo "packages.sh: $(wc -l <"$work/deb.list") files in both"

for suite in bookworm trixie; do "$root/.ci/fresh-install" "$suite" package; done
