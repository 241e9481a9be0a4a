#!/bin/bash
# Prints flockfs's version, which stands in CMakeLists.txt only.
set -euo pipefail
version=$(sed -nE 's/^project\(flockfs VERSION ([0-9]+\.[0-9]+\.[0-9]+) .*/\1/p' "$(dirname "${BASH_SOURCE[0]}")/../CMakeLists.txt")
[[ $version ]] || { echo "version.sh: no version in CMakeLists.txt" >&2; exit 1; }
printf '%s\n' "$version"
