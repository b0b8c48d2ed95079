#!/bin/sh
# jobs/slurm.sh with the real program: in a Slurm of one node that this test starts, where slurm-wlm and munge are installed;
# everywhere as a plain script, where only `scontrol` is a stand-in. A stopped job must leave a checkpoint, be queued again, go on,
# and end with the bytes of a run that nothing has stopped.
# shellcheck source=tests/jobs_scene.sh
. "$(dirname "$0")/jobs_scene.sh"

# ------------------------------------------------------------------------------------------------------- as a plain script
mkdir bin
printf '#!/bin/sh\necho "$*" >>scontrol.log\n' >bin/scontrol
chmod +x bin/scontrol
job() { # job [NAME=VALUE ...] -- ARGUMENT...: one job to its end
    settings=
    while [ "$1" != -- ]; do settings="$settings $1" && shift; done
    shift
    # shellcheck disable=SC2086
    env PATH="$work/bin:$PATH" SLURM_JOB_ID=77 LAUNCH="mpirun -np 2" $settings bash "$here/jobs/slurm.sh" "$@" >>log 2>&1
}

# The third checkpoint takes eight seconds: forty updates could be over before this script has seen the first.
ln -s "$here/build/faults_shim.so" shim.so
HOLD="LD_PRELOAD=$work/shim.so FAULT_CALL=rename FAULT_PATH=checkpoint-3 FAULT_N=1 FAULT_LAST=2 FAULT_HOW=sleep"
# shellcheck disable=SC2086
job $HOLD -- inputs/a.b.yaml &
running=$!
until_true 60 saved outputs/a.b
kill -USR1 "$(pgrep -P $running bash || echo $running)"
sleep 0.1
kill -USR1 "$(pgrep -P $running bash || echo $running)" 2>/dev/null # the script passes on one
wait $running
check "the signal's exit status" [ $? = 75 ]
check "the job is queued again" [ "$(cat scontrol.log)" = "requeue 77" ]
check "there is a checkpoint" saved outputs/a.b
job SLURM_RESTART_COUNT=1 -- inputs/a.b.yaml
check "it goes on to the end" [ $? = 0 ]
check "it went on from the checkpoint" has '^restart    from outputs/a.b/checkpoint-' outputs/a.b/run.log
same "as a script" outputs/a.b
job SLURM_RESTART_COUNT=2 -- inputs/a.b.yaml
check "a finished run again" [ $? = 0 ]
check "nothing more was queued" [ "$(cat scontrol.log)" = "requeue 77" ]

rm -f scontrol.log
job OUTPUT=elsewhere -- inputs/a.b.yaml output.directory=elsewhere checkpoint.every=0 train.steps=1000000 &
running=$!
until_true 60 [ -s elsewhere/train.h5 ]
sleep 0.5
kill -9 "$(pgrep -f "$UNLEARN.*elsewhere.*1000000" | head -n 1)"
wait $running
status=$?
gone() { ! pgrep -f "$UNLEARN.*elsewhere.*1000000" >/dev/null; }
until_true 60 gone # it may have been mpirun that was killed: its processes hold the directory a little longer
check "a failure is passed on ($status)" [ $((status && status != 75)) = 1 ]
job OUTPUT=elsewhere SLURM_RESTART_COUNT=1 -- inputs/a.b.yaml output.directory=elsewhere
check "again after an attempt without a checkpoint" [ $? = 0 ]
same "again" elsewhere
rm -r elsewhere/checkpoint-*
job OUTPUT=elsewhere -- inputs/a.b.yaml output.directory=elsewhere
check "a first start replaces nothing" [ $? = 1 ]
cksum elsewhere/* >before 2>/dev/null
job OUTPUT=elsewhere RENEW=1 -- inputs/a.b.yaml output.directory=elsewhere
check "of a chain, what is complete is left alone ($?)" [ "$(cksum elsewhere/* 2>/dev/null)" = "$(cat before)" ]
rm elsewhere/run.finished
job OUTPUT=elsewhere RENEW=1 -- inputs/a.b.yaml output.directory=elsewhere
check "and what is not begins again" [ $? = 0 ]
check "to its end" [ -e elsewhere/run.finished ]
check "a failure queues nothing" [ ! -e scontrol.log ]

# Every spelling of the directory: a checkpoint there is gone on with, not thrown away.
sed 's,^output: .*,output: {directory: "results/of it"},' inputs/a.b.yaml >inputs/named.yaml
named() { # named DIRECTORY ARGUMENT...: stops after the third update, then goes on
    where=$1
    shift
    mkdir -p "$where"
    job SLURM_RESTART_COUNT=1 -- "$@" train.steps=3
    rm -f "$where/run.finished"
    job SLURM_RESTART_COUNT=1 -- "$@" train.steps=4
    check "it goes on in $where" has '^restart  .*from ' "$where/run.log"
}
named "results/of it" inputs/named.yaml
named results/mapping inputs/a.b.yaml 'output={"directory":"results/mapping"}'
named results/quoted inputs/a.b.yaml 'output.directory="results/quoted"'
named outputs/named inputs/named.yaml output.directory=null
# As in a container that mpirun alone knows.
printf '#!/bin/sh\ntest "$1" != --directory || exit 126\nexec "%s" "$@"\n' "$UNLEARN" >inside
chmod +x inside
cksum results/quoted/* >before 2>/dev/null
job UNLEARN=./inside SLURM_RESTART_COUNT=1 -- inputs/a.b.yaml 'output.directory="results/quoted"'
check "a directory that is not known is an error" [ $? = 126 ]
check "which says what to do" has 'a.b.yaml: its output directory is not known: .* give the directory in OUTPUT$' log
check "and nothing is replaced" [ "$(cksum results/quoted/* 2>/dev/null)" = "$(cat before)" ]
further() { # further TEXT SETTING ARGUMENT...: it goes on from its checkpoint
    text=$1 setting=$2
    shift 2
    rm results/quoted/run.finished
    job UNLEARN=./inside "$setting" SLURM_RESTART_COUNT=1 -- inputs/a.b.yaml "$@"
    check "$text" [ "$? $(grep -c '^restart ' results/quoted/run.log)" = "0 $starts" ]
    starts=$((starts + 1))
}
starts=2
further "it may be said" OUTPUT=results/quoted 'output.directory="results/quoted"' train.steps=5
further "or stand in a plain key" OUTPUT=other output.directory=results/quoted train.steps=6

touch_stop() { saved "$1" && touch "$1/STOP"; }
job OUTPUT=third SLURM_RESTART_COUNT=20 -- inputs/a.b.yaml output.directory=third train.steps=1000000 &
running=$!
until_true 60 touch_stop third
wait $running
check "the last restart's exit status" [ $? = 75 ]
check "the last restart queues no other" [ ! -e scontrol.log ]
check "it says so" has 'submit again to go on' log
echo "inputs/a.b.yaml output.directory=sixth train.steps=1000000" >t.runs
job OUTPUT=sixth SLURM_ARRAY_JOB_ID=77 SLURM_ARRAY_TASK_ID=1 -- t.runs &
running=$!
until_true 60 touch_stop sixth
wait $running
check "of an array, one task alone is queued again" [ "$(cat scontrol.log)" = "requeue 77_1" ]
rm -f scontrol.log
job --
check "without an input" [ $? = 2 ]

# ------------------------------------------------------------------------------------------------------------ in Slurm
lack=
for name in slurmctld slurmd munged sbatch; do
    PATH=$PATH:/usr/sbin:/sbin command -v $name >/dev/null || lack="$lack $name"
done
if [ -n "$lack" ] || [ -n "$VARIANT" ]; then
    echo "skipped: no Slurm here:$lack"
    echo "$passed passed, $failed failed, 1 skipped"
    [ $failed = 0 ]
    exit
fi
PATH=$PATH:/usr/sbin:/sbin
S=$work/slurm me=$(id -un) port=$((20000 + $$ % 20000))
mkdir -p "$S/ctld" "$S/d" "$S/log"
dd if=/dev/urandom of="$S/munge.key" bs=128 count=1 2>/dev/null
chmod 400 "$S/munge.key"
force=
test "$(id -u)" != 0 || force=--force
# shellcheck disable=SC2086
munged $force --key-file="$S/munge.key" --socket="$S/munge.sock" --pid-file="$S/munge.pid" \
    --log-file="$S/log/munge.log" --seed-file="$S/munge.seed" >"$S/log/start" 2>&1
export SLURM_CONF="$S/slurm.conf"
cat >"$SLURM_CONF" <<CONF
ClusterName=tests
SlurmctldHost=localhost
AuthType=auth/munge
AuthInfo=socket=$S/munge.sock
CredType=cred/munge
SlurmUser=$me
SlurmdUser=$me
SlurmctldPort=$port
SlurmdPort=$((port + 1))
SlurmctldPidFile=$S/ctld.pid
SlurmdPidFile=$S/d.pid
StateSaveLocation=$S/ctld
SlurmdSpoolDir=$S/d
SlurmctldLogFile=$S/log/ctld.log
SlurmdLogFile=$S/log/d.log
MpiDefault=pmix
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SlurmdParameters=config_overrides
ReturnToService=2
KillWait=10
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/filetxt
JobCompLoc=$S/log/jobcomp.log
NodeName=localhost NodeAddr=127.0.0.1 CPUs=8 Sockets=1 CoresPerSocket=8 ThreadsPerCore=1 RealMemory=1000
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
SlurmctldParameters=preempt_send_user_signal
SchedulerParameters=batch_sched_delay=1,sched_interval=5
PartitionName=debug Nodes=localhost Default=YES MaxTime=INFINITE State=UP PriorityTier=1 GraceTime=60
PartitionName=urgent Nodes=localhost MaxTime=INFINITE State=UP PriorityTier=2 PreemptMode=OFF
CONF
case $(slurmctld -V) in *' '2[0-2].*) ;; *) echo PreemptParameters=send_user_signal >>"$SLURM_CONF" ;; esac # its place later
slurmctld >>"$S/log/start" 2>&1
slurmd -N localhost >>"$S/log/start" 2>&1
idle() { sinfo -h -o %t | grep -q idle; }
if ! until_true 20 idle; then
    cat "$S"/log/start "$S"/log/*.log | tail -n 20
    echo "skipped: Slurm does not start here"
    echo "$passed passed, $failed failed, 1 skipped"
    [ $failed = 0 ]
    exit
fi
submit() { sbatch --parsable --nodes=1 --ntasks-per-node=2 --cpus-per-task=1 --output="$work/job.log" "$@"; }
state() { scontrol show job "$1" | tr ' ' '\n' | sed -n "s/^$2=//p"; }
is() { [ "$(state "$1" "$2")" = "$3" ]; }
over() { case $(state "$1" JobState) in COMPLETED | FAILED | TIMEOUT | CANCELLED | NODE_FAIL) ;; *) return 1 ;; esac; }

# The end of the time itself: two minutes, the signal a minute before it, which Slurm sends up to a minute early.
long=$(OUTPUT=fifth RESTARTS=0 submit --partition=urgent --output="$work/long.log" --time=2 --signal=B:USR1@60 "$here/jobs/slurm.sh" \
    inputs/a.b.yaml output.directory=fifth train.steps=10000000 checkpoint.every=1000)

# Preempted, which sends the same signal sooner, and what comes after it.
# shellcheck disable=SC2086,SC2163
id=$(export $HOLD && OUTPUT=fourth submit "$here/jobs/slurm.sh" inputs/a.b.yaml output.directory=fourth)
until_true 60 saved fourth
urgent=$(sbatch --parsable --partition=urgent --ntasks=6 --output=/dev/null --wrap 'sleep 1')
check "Slurm: the job is queued again" until_true 60 is "$id" Restarts 1
check "Slurm: with a checkpoint" has 'stopped by a signal' fourth/run.log
check "Slurm: for one that is more urgent" until_true 60 is "$urgent" JobState COMPLETED
until_true 30 is "$id" JobState PENDING
sleep 2                                   # a job that starts in the second of its end is taken for the ended one
scontrol update JobId="$id" StartTime=now # Slurm waits two minutes before it starts a job again
until_true 90 over "$id"
check "Slurm: it goes on to the end ($(state "$id" JobState))" is "$id" JobState COMPLETED
check "Slurm: from its checkpoint" has '^restart    from fourth/checkpoint-' fourth/run.log
same "Slurm" fourth

# An array of jobs over a table, and a chain of jobs, each after those that it needs.
cat >two.runs <<'RUNS'
inputs/a.b.yaml output.directory=outputs/1 train.steps=3
inputs/a.b.yaml output.directory=outputs/2
RUNS
id=$(submit --array=1-2 --wait "$here/jobs/slurm.sh" two.runs checkpoint.every=0)
check "Slurm: an array ($id)" [ "$(grep -c '^update  ' outputs/1/run.log)" = 3 ]
same "Slurm: its second line" outputs/2

PYTHON=$here/${VENV:-.venv}/bin/python
case ${VENV:-} in /*) PYTHON=$VENV/bin/python ;; esac
test -x "$PYTHON" || PYTHON=true # the chain without its report
export PYTHON
ln -s "$here/inputs/paper" "$here/inputs/demo" inputs
chain() { OPTIONS="--nodes=1 --ntasks-per-node=2 --cpus-per-task=1" bash "$here/jobs/chain.sh" slurm demo forget05 "$@" >chain.log 2>&1; }
job_of() { sed -n "s,^$1: job \\([0-9]*\\).*,\\1,p" chain.log; }
chain wga+kl train.steps=2 evaluate.rows=2 evaluate.max_length=40
check "Slurm: a chain is submitted" [ "$(grep -c ': job [0-9]' chain.log)" = 6 ]
last=$(job_of report)
until_true 90 over "$last"
check "Slurm: a chain to the report ($(state "$last" JobState))" is "$last" JobState COMPLETED
check "Slurm: it has scores" has forget_quality outputs/demo/forget05/wga+kl/evaluation/TOFU_SUMMARY.json
test "$PYTHON" = true || check "Slurm: it has a report" [ -n "$(find outputs/demo/forget05 -maxdepth 1 -name 'report.*' -size +1k)" ]
chain wga optimizer.lr=-1
last=$(job_of report)
until_true 60 over "$last"
check "Slurm: a step that fails ends the chain ($(state "$last" JobState))" is "$last" JobState CANCELLED

check "Slurm: it stops before its time is over" until_true 110 over "$long"
check "Slurm: with the status of a stopped run ($(state "$long" ExitCode))" is "$long" ExitCode 75:0
check "Slurm: and with a checkpoint" saved fifth
check "Slurm: and says how to go on" has 'submit again to go on' "$work/long.log"
test $failed = 0 || cat log job.log chain.log outputs/demo/forget05/chain-*.log
echo "$passed passed, $failed failed"
[ $failed = 0 ]
