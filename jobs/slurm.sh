#!/bin/bash
# Slurm: runs an input file, stops in time with a checkpoint, and goes on in a job of the same number until it is done.
#   sbatch [--nodes=N ...] jobs/slurm.sh inputs/NAME.yaml [key.sub=value ...]
#   sbatch --array=1-27 jobs/slurm.sh TABLE.runs [key.sub=value ...]      a run for each line of the table
# Options given to sbatch override those below; common.sh has the variables; README.md has more.
#SBATCH --job-name=unlearn
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=8
#SBATCH --cpus-per-task=4
#SBATCH --time=12:00:00
#SBATCH --output=unlearn-%j.log
#SBATCH --open-mode=append
#SBATCH --requeue
#SBATCH --signal=B:USR1@600
# A process for each NUMA domain of a node, a thread for each core of one: `lscpu` tells both numbers.
# 600 s before the end the script (B:) gets USR1, up to 60 s early: more than a step and a checkpoint must take. Slurm's
# signal would not reach processes started by mpirun, and TERM leaves them one second; mpirun passes USR1 on. A signal in the
# first seconds, before the program has read its input, ends it without a checkpoint: --time must be well above those 600 s.
set -u
job=${SLURM_JOB_ID:-} task=${SLURM_ARRAY_TASK_ID:-}
self=$job # of an array's tasks one has the number of the whole array, all of which would be queued again
[ -z "$task" ] || self=${SLURM_ARRAY_JOB_ID:-$job}_$task
restarts=${SLURM_RESTART_COUNT:-0}
threads=${SLURM_CPUS_PER_TASK:-1}
ranks=${SLURM_NTASKS:-} hosts=
# Slurm runs a copy of this file from elsewhere; of an array it may tell several jobs.
[ -e "$(dirname "$0")/common.sh" ] ||
    UNLEARN_JOBS=${UNLEARN_JOBS:-$(dirname "$(scontrol show job "$job" | sed -n 's/^ *Command=\(.*\/slurm\.sh\).*/\1/p; t; s/^ *Command=\([^ ]*\).*/\1/p' | head -n 1)")}
# shellcheck source=jobs/common.sh
. "${UNLEARN_JOBS:-$(dirname "$0")}/common.sh" || exit 2

again() {
    echo "$me: stopped with a checkpoint; job $self is queued again"
    scontrol requeue "$self"
}
run_job "$@"
