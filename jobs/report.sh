#!/bin/bash
# What came out of a chain: one page of the pictures and scores of its runs.
#   bash jobs/report.sh outputs/MODEL/SPLIT NAME ...                      PYTHON=.venv/bin/python
set -u
unset CDPATH # with which cd prints
analysis=$(cd "$(dirname "$0")/../analysis" && pwd) || exit 2
out=$1
shift
exec "${PYTHON:-.venv/bin/python}" "$analysis/unlearn-report" report "${@/#/$out/}" -o "$out/report.html"
