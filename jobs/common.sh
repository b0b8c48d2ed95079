# shellcheck shell=bash
# What the job scripts share: slurm.sh, pbs.sh, lsf.sh and local.sh source this file and call run_job. Before that they set
#   task      the job's place in an array; empty: none    ranks    how many processes; empty: mpirun knows
#   restarts  how often the job has been begun before     threads  of a process
#   hosts     a file that names a host for each process; empty: mpirun knows
#   last      the status of a job that has been begun too often (75)
# and define again(), which sees to it that the job is run once more.
# From the environment, for all of them:
#   RUN       the arguments, where the scheduler passes none: INPUT.yaml or TABLE.runs, then key.sub=value ..., without blanks in any
#   TASK      the line of the table, where it is not the place in an array
#   OUTPUT    the output directory, where the program itself cannot be asked for it: it starts by LAUNCH alone
#   LAUNCH    how to start the processes ("srun --mpi=pmix", "mpiexec -n 8")
#   UNLEARN   the program (./unlearn)
#   RESTARTS  how often to go on at most (20)

unset CDPATH # with which cd prints and goes elsewhere

# Whether all is there that a run was to write into this directory; a link: a model made elsewhere. A run that trains writes its
# scores before its model.
complete() { [ -e "$1/run.finished" ] || [ -L "$1/model" ] || { [ -e "$1/TOFU_SUMMARY.json" ] && [ ! -e "$1/train.h5" ]; }; }

# Where "SCHEDULER NUMBER CHECKSUM" stands of the job of a chain that was the last to be given this directory, and of its line.
job_note() { echo "outputs/.job-$(tr / - <<<"${1#outputs/}")"; }

# Sets `arguments` and `output`: those of this job, of line `task` of a table, and where its results go.
read_arguments() {
    local line
    if [ $# -eq 0 ] && [ -n "${RUN:-}" ]; then
        read -ra arguments <<<"$RUN"
        set -- "${arguments[@]}"
    fi
    if [ $# -lt 1 ]; then
        echo "$me: no input: give INPUT.yaml [key.sub=value ...] or TABLE.runs, as arguments or in the variable RUN" >&2
        exit 2
    fi
    arguments=("$@")
    if [[ $1 == *.runs ]]; then
        if [ -z "${task:=${TASK:-}}" ]; then
            echo "$me: $1: a table needs an array of jobs, one for each line, or the line's number in TASK" >&2
            exit 2
        fi
        line=$(sed -n "${task}p" "$1")
        if [ -z "$line" ]; then
            echo "$me: $1: has no line $task" >&2
            exit 2
        fi
        read -ra arguments <<<"$line"
        arguments+=("${@:2}")
    fi
    find_output
}

# Sets `output` by what the program itself makes of `arguments`: what is there is gone on with or replaced, so nothing is guessed.
# Where it cannot be asked, a key that is a plain path (no quotes, no null) leaves no doubt either.
find_output() {
    local status word program=${UNLEARN:-./unlearn} plain='^output\.directory=[A-Za-z0-9._+-]*/[A-Za-z0-9._/+-]*$'
    output=$("$program" --directory "${arguments[@]}") && return
    status=$? output=
    for word in "${arguments[@]}"; do
        if [[ $word =~ $plain ]]; then output=${word#*=}; elif [[ $word == output[.=]* ]]; then output=; fi
    done
    output=${output:-${OUTPUT:-}}
    [ -z "$output" ] || return 0
    echo "$me: ${arguments[0]}: its output directory is not known: \`$program --directory\` ends with status $status;" \
        "where the program does not start without LAUNCH, give the directory in OUTPUT" >&2
    exit "$status"
}

# Asks the program for a checkpoint, once: a second signal would make it leave without one. $1: whether to go on afterwards.
stop_run() {
    signalled=1
    [ "$1" = again ] || final=1
    if [ -n "$pid" ] && [ -z "$sent" ]; then
        sent=1
        kill -USR1 "$pid"
    fi
}

# Runs the program to its end or to a checkpoint; leaves with its status.
run_job() {
    local mode=() launch place status
    me=$(basename "${BASH_SOURCE[1]}")
    pid='' sent='' signalled='' final='' arguments=()
    read_arguments "$@"
    if [ -n "${RENEW:-}" ] && complete "$output"; then
        echo "$me: $output: complete" # since the chain was submitted
        exit 0
    fi
    # One process for each NUMA domain, with threads on its cores, where there are as many processes as domains.
    export OMP_NUM_THREADS=${threads:-1}
    export OMPI_MCA_orte_execute_quiet=1 # mpirun -q, which Open MPI 5 does not know
    place="mpirun ${ranks:+-np $ranks} ${hosts:+--hostfile $hosts} -x OMP_NUM_THREADS --map-by numa:PE=$OMP_NUM_THREADS --bind-to core"
    read -ra launch <<<"${LAUNCH:-$place}"
    # Where a checkpoint is, go on from it; what an earlier attempt of this very job (RENEW: of this run of a chain, which is
    # not complete) left without one begins again.
    if compgen -G "$output/checkpoint-*[0-9]" >/dev/null; then # not checkpoint-N.tmp, which was not saved whole
        mode=(--restart)
    elif [ "$restarts" -gt 0 ] || [ -n "${RENEW:-}" ]; then
        mode=(--overwrite)
    fi
    trap 'stop_run again' USR1
    trap 'stop_run over' TERM # whoever ends or preempts the job queues it again, or does not want it
    "${launch[@]}" "${UNLEARN:-./unlearn}" "${mode[@]}" "${arguments[@]}" &
    pid=$!
    while :; do
        signalled=
        wait "$pid"
        status=$?
        [ -n "$signalled" ] || break # else the signal ended `wait`, not the program
    done
    if [ "$status" -eq 75 ] && [ -n "$final" ]; then
        echo "$me: stopped with a checkpoint"
        exit 143 # as TERM: no scheduler takes it for the wish to go on
    elif [ "$status" -eq 75 ] && [ "$restarts" -ge "${RESTARTS:-20}" ]; then
        echo "$me: stopped with a checkpoint after $restarts restarts: submit again to go on" >&2
        status=${last:-75}
    elif [ "$status" -eq 75 ]; then # stopped early with a checkpoint
        again
    fi
    exit "$status"
}

# Sets `restarts` where the scheduler does not count: in a file, as long as the job may go on.
count_restarts() { # count_restarts NAME: of the job, the same at each attempt
    counter=outputs/.attempts-$1
    restarts=$(cat "$counter" 2>/dev/null || echo 0)
    mkdir -p outputs
    echo $((restarts + 1)) >"$counter"
    trap 'case $? in 75 | 143) ;; *) rm -f "$counter" ;; esac' EXIT
}
