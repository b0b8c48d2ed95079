#!/bin/bash
# Slurm: runs an input file, stops in time with a checkpoint, and goes on in a job of the same number until it is done.
#   sbatch [--nodes=N ...] jobs/slurm.sh inputs/NAME.yaml [key.sub=value ...]
# Options given to sbatch override those below. From the environment:
#   OUTPUT     the output directory, where the input sets one that is not outputs/NAME
#   LAUNCH     how to start the processes ("srun --mpi=pmix")
#   RESTARTS   how often to go on at most (20)
#SBATCH --job-name=unlearn
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=8
#SBATCH --cpus-per-task=4
#SBATCH --time=12:00:00
#SBATCH --output=unlearn-%j.log
#SBATCH --open-mode=append
#SBATCH --requeue
#SBATCH --signal=B:USR1@600
# 600 s before the end the script (B:) gets USR1, up to 60 s early: more than a step and a checkpoint must take. Slurm's
# signal would not reach processes started by mpirun, and TERM leaves them one second; mpirun passes USR1 on. A signal in the
# first seconds, before the program has read its input, ends it without a checkpoint: --time must be well above those 600 s.
set -u
if [ $# -lt 1 ]; then
    echo "usage: sbatch jobs/slurm.sh INPUT.yaml [key.sub=value ...]" >&2
    exit 2
fi
input=$1
name=$(basename "$input")
output=${OUTPUT:-outputs/${name%.*}}
restarts=${SLURM_RESTART_COUNT:-0}
export OMP_NUM_THREADS=${SLURM_CPUS_PER_TASK:-1}
read -ra launch <<<"${LAUNCH:-mpirun -q --map-by slot:PE=$OMP_NUM_THREADS --bind-to core}"

# Where a checkpoint is, go on from it; what an earlier attempt of this very job left without one begins again.
mode=()
if compgen -G "$output/checkpoint-*" >/dev/null; then
    mode=(--restart)
elif [ "$restarts" -gt 0 ]; then
    mode=(--overwrite)
fi

pid=
sent=
signalled=
# Passed on once: a second signal would make the program leave without a checkpoint.
trap 'signalled=1; if [ -n "$pid" ] && [ -z "$sent" ]; then sent=1; kill -USR1 "$pid"; fi' USR1
"${launch[@]}" "${UNLEARN:-./unlearn}" "${mode[@]}" "$@" &
pid=$!
while :; do
    signalled=
    wait "$pid"
    status=$?
    [ -n "$signalled" ] || break # else the signal ended `wait`, not the program
done

if [ "$status" -eq 75 ]; then # stopped early with a checkpoint
    if [ "$restarts" -lt "${RESTARTS:-20}" ]; then
        echo "slurm.sh: stopped with a checkpoint; job ${SLURM_JOB_ID:-?} is queued again"
        scontrol requeue "$SLURM_JOB_ID"
    else
        echo "slurm.sh: stopped with a checkpoint after $restarts restarts: submit again to go on" >&2
    fi
fi
exit "$status"
