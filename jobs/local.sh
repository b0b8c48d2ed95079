#!/bin/bash
# No scheduler: runs an input file here and now; started again after a signal, it goes on from the checkpoint.
#   RANKS=2 THREADS=4 bash jobs/local.sh inputs/NAME.yaml [key.sub=value ...]
#   TASK=3 bash jobs/local.sh TABLE.runs [key.sub=value ...]              line 3 of the table
set -u
task='' restarts=0 hosts=''
threads=${THREADS:-1} ranks=${RANKS:-}
# shellcheck source=jobs/common.sh
. "$(dirname "$0")/common.sh" || exit 2

again() { echo "$me: stopped with a checkpoint: start it again to go on" >&2; }
run_job "$@"
