#!/bin/sh
# inputs/make_demo.py writes exactly the demo data that is in the repository, whatever the hash seed and locale.
cd "$(dirname "$0")/.." || exit 1
command -v python3 >/dev/null || { echo "skipped: no python3"; exit 77; }
new=$(mktemp -d) || exit 1
trap 'rm -rf "$new"' EXIT
LC_ALL=C PYTHONHASHSEED=7 python3 inputs/make_demo.py "$new" && diff -r -x README.md inputs/demo "$new"
