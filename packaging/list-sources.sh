#!/bin/bash
# Prints the names of all files that this tree is built from, each with a NUL behind it: what git does not ignore, or
# without git all but the builds.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
if git -c safe.directory='*' rev-parse --show-toplevel 2>/dev/null | grep -qxF "$PWD"; then
  git -c safe.directory='*' ls-files -z --cached --others --exclude-standard
else
  find . \( -path './build*' -o -path ./.git \) -prune -o \( -type f -o -type l \) -printf '%P\0'
fi
