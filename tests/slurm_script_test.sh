#!/bin/sh
# jobs/slurm.sh with a stand-in for the program and for scontrol: what it starts, passes on, and asks Slurm for.
here=$(cd "$(dirname "$0")/.." && pwd)
command -v bash >/dev/null || { echo "skipped: no bash"; exit 77; }
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT
cd "$work" || exit 1
passed=0 failed=0

# Says how it was called; stops with 75 at USR1, otherwise ends with $RESULT, at once unless $WAIT is set.
cat >unlearn <<'STUB'
#!/bin/bash
trap 'echo signal >>signals; sleep 0.3; exit 75' USR1
echo "$*" >called
while [ -n "$WAIT" ]; do sleep 0.05; done
exit "${RESULT:-0}"
STUB
printf '#!/bin/sh\necho "$*" >>scontrol.log\n' >scontrol
chmod +x unlearn scontrol
PATH=$work:$PATH LAUNCH=env SLURM_JOB_ID=77
export PATH LAUNCH SLURM_JOB_ID

check() { # check TEXT CONDITION...
    text=$1
    shift
    if "$@"; then passed=$((passed + 1)); else failed=$((failed + 1)); echo "FAILED: $text"; fi
}
run() { # run STATUS CALL TEXT [NAME=VALUE ...]: one job to its end
    want=$1 call=$2 text=$3
    shift 3
    rm -f called
    env "$@" bash "$here/jobs/slurm.sh" inputs/a.b.yaml key=1 >log 2>&1
    check "$text: exit status" [ $? = "$want" ]
    check "$text: call" [ "$(cat called)" = "$call" ]
}

run 0 "inputs/a.b.yaml key=1" "first start"
run 3 "inputs/a.b.yaml key=1" "a failure is passed on" RESULT=3
run 0 "--overwrite inputs/a.b.yaml key=1" "again after an attempt without a checkpoint" SLURM_RESTART_COUNT=1
mkdir -p outputs/a.b/checkpoint-5 elsewhere
run 0 "--restart inputs/a.b.yaml key=1" "again after a checkpoint" SLURM_RESTART_COUNT=1
run 0 "inputs/a.b.yaml key=1" "another output directory" OUTPUT=elsewhere
check "nothing was queued again" [ ! -e scontrol.log ]
run 75 "--restart inputs/a.b.yaml key=1" "one restart too many" RESULT=75 SLURM_RESTART_COUNT=20
check "the last restart queues no other" [ ! -e scontrol.log ]

rm -f called
WAIT=1 bash "$here/jobs/slurm.sh" inputs/a.b.yaml >log 2>&1 &
job=$!
for _ in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
    [ -s called ] && break
    sleep 0.5
done
kill -USR1 $job
sleep 0.1
kill -USR1 $job 2>/dev/null
wait $job
check "the signal's exit status" [ $? = 75 ]
check "the program gets one signal" [ "$(cat signals)" = signal ]
check "the job is queued again" [ "$(cat scontrol.log)" = "requeue 77" ]
bash "$here/jobs/slurm.sh" >log 2>&1
check "without an input" [ $? = 2 ]
echo "$passed passed, $failed failed"
[ $failed = 0 ]
