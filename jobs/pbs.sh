#!/bin/bash
# PBS Pro and OpenPBS: runs an input file, stops in time with a checkpoint, and goes on in another job until it is done.
#   qsub [-l select=...] -v RUN="inputs/NAME.yaml key.sub=value" jobs/pbs.sh
#   qsub -J 1-27 -v RUN=TABLE.runs jobs/pbs.sh                            a run for each line of the table
# From the directory that has jobs/, or with UNLEARN_JOBS=DIRECTORY beside RUN. Arguments with commas or quotes go into a table.
# Options given to qsub override those below; common.sh has the variables; README.md has more.
#PBS -N unlearn
#PBS -l select=1:ncpus=32:mpiprocs=8:ompthreads=4
#PBS -l place=scatter
#PBS -l walltime=12:00:00
#PBS -j oe
#PBS -r y
# A process (mpiprocs) for each NUMA domain of a node, a thread (ompthreads) for each core of one: `lscpu` tells both numbers.
# PBS sends no signal ahead of the end; the program itself stops in time, for which PBS_WALLTIME must say how long it has.
set -u
cd "${PBS_O_WORKDIR:-.}" || exit 2
job=${PBS_JOBID:-} task=${PBS_ARRAY_INDEX:-}
threads=${OMP_NUM_THREADS:-1}
hosts=${PBS_NODEFILE:-}
ranks=${hosts:+$(wc -l <"$hosts")}
# shellcheck source=jobs/common.sh
. "${UNLEARN_JOBS:-jobs}/common.sh" || exit 2
count_restarts "pbs-${FIRST_JOB:=$job}"

described() { qstat -f "$1" | sed -e ':a' -e 'N' -e '$!ba' -e 's/\n\t//g'; } # lines that qstat broke are whole again
attribute() { sed -n "s/^ *$1 = //p" <<<"${2-$request}"; }                     # attribute NAME [DESCRIPTION]
depends() { attribute depend "${2-$request}" | tr ',' '\n' | sed -n "s/^$1://p" | tr ':' ' '; }
request=$(described "$job")
if [ -z "${PBS_WALLTIME:-}" ]; then
    IFS=: read -r hours minutes seconds <<<"$(attribute Resource_List.walltime)"
    export PBS_WALLTIME=$((10#${hours:-0} * 3600 + 10#${minutes:-0} * 60 + 10#${seconds:-0} - SECONDS))
    [ "$PBS_WALLTIME" -gt 0 ] || unset PBS_WALLTIME
fi

# qrerun is for operators: a new job takes over what this one asked for, and the jobs that wait for this one to end well.
again() {
    local options=() carried=RUN,TASK,FIRST_JOB key value next waiting others note scheduler number line
    for key in select place walltime; do
        value=$(attribute Resource_List.$key)
        [ -z "$value" ] || options+=(-l "$key=$value")
    done
    value=$(attribute Account_Name)
    [ -z "$value" ] || options+=(-A "$value")
    value=$(attribute project)
    [ -z "$value" ] || options+=(-P "$value")
    [ -z "${PBS_O_QUEUE:-}" ] || options+=(-q "$PBS_O_QUEUE")
    export FIRST_JOB RUN=${RUN:-} TASK=$task # an array's other runs go on by themselves: this is a job of its own
    for key in OUTPUT LAUNCH UNLEARN RESTARTS UNLEARN_JOBS; do
        [ -z "${!key:-}" ] || carried+=,$key
    done
    next=$(qsub "${options[@]}" -v "$carried" "${UNLEARN_JOBS:-jobs}/pbs.sh") || return
    echo "$me: stopped with a checkpoint; job $next goes on"
    note=$(job_note "$output") # for chains to come
    [ -e "$note" ] && read -r scheduler number line <"$note" && [ "$scheduler $number" = "pbs $job" ] && echo "pbs $next $line" >"$note"
    for waiting in $(depends beforeok); do # the list that qalter is given takes the place of all that the job waits for
        others=
        for value in $(depends afterok "$(described "$waiting")"); do
            [ "${value%%@*}" = "${job%%@*}" ] || others+=:$value
        done
        qalter -W "depend=afterok:$next$others" "$waiting"
    done
}
run_job "$@"
