#!/bin/bash
# LSF: runs an input file, stops in time with a checkpoint, and goes on in a job of the same number until it is done.
#   RUN="inputs/NAME.yaml key.sub=value" bsub [-n N ...] <jobs/lsf.sh
#   RUN=TABLE.runs bsub -J "unlearn[1-27]" <jobs/lsf.sh                   a run for each line of the table
# From the directory that has jobs/, or with UNLEARN_JOBS=DIRECTORY beside RUN. Arguments with blanks or quotes go into a table.
# Options given to bsub override those below; common.sh has the variables, THREADS beside them; README.md has more.
#BSUB -J unlearn
#BSUB -n 8
#BSUB -R "span[ptile=8] affinity[core(4)]"
#BSUB -W 12:00
#BSUB -o unlearn-%J-%I.log
#BSUB -r
#BSUB -Q 75
#BSUB -wa USR1
#BSUB -wt 10
# A process for each NUMA domain of a node (ptile of them, -n in all), a thread for each core of one (core(...), THREADS).
# 10 minutes before the end the whole job gets USR1, the program directly and from mpirun: within a second they count as one.
# LSF itself queues a job again that ends with status 75 (-Q), or whose host has failed (-r).
set -u
job=${LSB_JOBID:-} task=${LSB_JOBINDEX:-}
[ "$task" != 0 ] || task= # no array
threads=${THREADS:-4} last=1 # 75 would queue it again
hosts=${LSB_DJOB_HOSTFILE:-}
ranks=${hosts:+$(wc -l <"$hosts")}
# shellcheck source=jobs/common.sh
. "${UNLEARN_JOBS:-jobs}/common.sh" || exit 2
count_restarts "lsf-$job-$task"

again() { echo "$me: stopped with a checkpoint; job $job is queued again"; }
run_job "$@"
