#!/bin/bash
# Experiments of inputs/paper from a model that never saw TOFU to a report, as jobs that wait for one another:
#   finetune -> NAME ... -> NAME/evaluation ... -> report        retrain -> retrain/evaluation: goes before NAME/evaluation
#   bash jobs/chain.sh slurm|pbs|lsf|local MODEL SPLIT NAME|@GROUP... [key.sub=value ...]
#   bash jobs/chain.sh slurm phi-1.5 forget05 wga+kl npo+kl
# local needs no scheduler: one after the other, here and now. What is complete is not run again, and for what another chain has
# submitted already the jobs wait: after a failure or for another NAME, start it again. Keys count for every run. From the
# environment, beside what common.sh and experiment.sh take:
#   OPTIONS   for sbatch, qsub or bsub: OPTIONS="--nodes=4 --account=physics"
#   PYTHON    with analysis/'s packages (.venv/bin/python)
# The runs stand in outputs/MODEL/SPLIT/chain-NUMBER.runs, a line each; the report is report.html beside it. Jobs read their line when
# they start, long after other chains were submitted: the number is a checksum of the lines, so that no chain changes another's table,
# and the same chain, started again, finds its own.
set -u
unset CDPATH # with which cd prints
jobs=$(cd "$(dirname "$0")" && pwd) || exit 2
fail() {
    echo "chain.sh: $*" >&2
    exit 2
}
[ $# -ge 4 ] || fail "usage: bash jobs/chain.sh slurm|pbs|lsf|local MODEL SPLIT NAME|@GROUP... [key.sub=value ...]"
# shellcheck source=jobs/common.sh
. "$jobs/common.sh" || exit 2 # `complete` would be bash's own
scheduler=$1 model=$2 split=$3
shift 3
[ -e inputs/paper/experiment.sh ] || fail "inputs/paper/experiment.sh: not here: start it in the directory that has inputs/"
names=() keys=()
for argument; do
    if [[ $argument == *=* ]]; then keys+=("$argument"); else names+=("$argument"); fi
done
experiment() { sh inputs/paper/experiment.sh "$@"; }
mapfile -t names < <(experiment -n "$model" "$split" "${names[@]}" | sort -u)
[ ${#names[@]} -gt 0 ] || exit 2 # experiment.sh has said why
out=outputs/$model/$split
mkdir -p "$out"
read -ra options <<<"${OPTIONS:-}"

# Each prints the number of the job that it has submitted: run `line` of the table, after the jobs in `after`, a list with blanks.
slurm() {
    local wait=()
    [ -z "$after" ] || wait=(--dependency="afterok:${after// /:}" --kill-on-invalid-dep=yes)
    sbatch --parsable "${options[@]}" "${wait[@]}" --job-name="$name" "$@"
}
pbs() { qsub "${options[@]}" ${after:+-W "depend=afterok:${after// /:}"} -N "${name:0:15}" "$@"; }
lsf() { # its script comes in by standard input
    local wait=() said
    [ -z "$after" ] || wait=(-ti -w "done(${after// /") && done("})")
    said=$(bsub "${options[@]}" "${wait[@]}" -J "$name") || return
    sed -n 's/^Job <\([0-9]*\)>.*/\1/p' <<<"$said" | grep .
}
# Whether it knows this job as one that waits or runs. What PBS is just ending (E) may be gone before another job could depend on it.
slurm_has() { squeue -h -t all -o %T -j "$1" | grep -qE '^(PENDING|CONF|RUN|SUSP|STOP|SIGN|STAGE|RESIZ|REQUEUE|COMPLETING)'; }
pbs_has() { qstat -f "$1" | grep -q '^ *job_state = [BHQRSTUW]'; }
lsf_has() { bjobs "$1" | awk '$3 ~ /^(PEND|RUN|PSUSP|USUSP|SSUSP|WAIT|PROV)$/ { found = 1 } END { exit !found }'; }
sum() { cksum <<<"$1" | cut -d ' ' -f 1; }
submitted() { # submitted DIRECTORY LINE: the number of a job that is to write there, if one does
    local note known number line
    note=$(job_note "$1")
    [ -e "$note" ] && read -r known number line <"$note" && [ "$known" = "$scheduler" ] || return 0
    "${scheduler}_has" "$number" 2>/dev/null || return 0
    [ "$line" = "$(sum "$2")" ] || fail "$1: job $number is to make it, with other keys: cancel that job first, or wait for its end"
    echo "$number"
}
submit() { # submit NAME LINE AFTER: a run of the table, or the report
    local name=unlearn-${1//\//-} after=$3 log=$out/chain-${1//\//-}.log command
    export RUN=$table TASK=$2 UNLEARN_JOBS=$jobs RENEW=1
    command="cd '$PWD' && bash '$jobs/report.sh' '$out' ${names[*]}"
    case $scheduler/$1 in
    slurm/report) slurm --output="$log" --wrap "$command" ;;
    slurm/*) slurm --output="$log" "$jobs/slurm.sh" ;;
    pbs/report) pbs -j oe ${PYTHON:+-v PYTHON} <<<"$command" ;;
    pbs/*) pbs -v "RUN,TASK,UNLEARN_JOBS,RENEW${UNLEARN:+,UNLEARN}${LAUNCH:+,LAUNCH}${RESTARTS:+,RESTARTS}" "$jobs/pbs.sh" ;;
    lsf/report) lsf <<<"$command" ;;
    lsf/*) lsf <"$jobs/lsf.sh" ;;
    local/report) sh -c "$command" >"$log" 2>&1 || fail "the report has failed: $log" ;;
    local/*) bash "$jobs/local.sh" >"$log" 2>&1 || fail "$1 has failed: $log" ;;
    *) fail "$scheduler: no such scheduler: slurm, pbs, lsf or local" ;;
    esac
}

# The table, then the jobs. id[NAME]: of the job that is to make it, empty where it is complete.
runs=(finetune retrain retrain/evaluation "${names[@]}" "${names[@]/%//evaluation}")
lines=$(experiment "$model" "$split" "${runs[@]}" "${keys[@]}") || exit
table=$out/chain-$(sum "$lines").runs
printf '%s\n' "$lines" >"$table.new" && mv "$table.new" "$table" || exit # a job that starts now finds it whole
declare -A id
waits_for() {
    local before=() one list=
    case $1 in
    finetune | retrain) ;;
    report) before=("${names[@]/%//evaluation}") ;;
    retrain/evaluation) before=(finetune retrain) ;; # the former is its reference
    */evaluation) before=("${1%/evaluation}" retrain/evaluation) ;;
    *) before=(finetune) ;;
    esac
    for one in "${before[@]}"; do list+=${id[$one]:+ ${id[$one]}}; done
    echo "${list# }"
}
start() { # start NAME NUMBER DIRECTORY LINE: submits it, line NUMBER of the table, after what it waits for
    local after
    after=$(waits_for "$1")
    id[$1]=$(submit "$1" "$2" "$after") || exit
    if [ "$scheduler" = local ]; then echo "$1: done" && return; fi
    echo "$1: job ${id[$1]}${after:+, after $after}"
    [ -z "$3" ] || echo "$scheduler ${id[$1]} $(sum "$4")" >"$(job_note "$3")"
}
line=0
for run in "${runs[@]}"; do
    line=$((line + 1))
    [ -z "${id[$run]+x}" ] || continue # it was asked for by name too
    text=$(sed -n "${line}p" <<<"$lines")
    directory=$(sed -n 's/.*output.directory=\([^ ]*\).*/\1/p' <<<"$text")
    id[$run]=
    complete "$directory" && echo "$run: complete" && continue
    id[$run]=$(submitted "$directory" "$text") || exit
    if [ -n "${id[$run]}" ]; then
        echo "$run: job ${id[$run]}, which another chain has submitted"
    else
        start "$run" $line "$directory" "$text"
    fi
done
start report '' '' ''
