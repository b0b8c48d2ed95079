#!/bin/sh
# jobs/ without a scheduler, with the real program: pbs.sh and lsf.sh as plain scripts, with stand-ins for qstat, qsub, qalter,
# bsub and bjobs; tables of runs; the chain of jobs, as PBS and LSF get it and run here from a drawn model to the report. Slurm's part
# is in slurm_script_test.sh, but for a chain that waits for another's jobs, with stand-ins for sbatch and squeue.
# shellcheck source=tests/jobs_scene.sh
. "$(dirname "$0")/jobs_scene.sh"
skipped=0
mkdir -p bin outputs
UNLEARN_JOBS=$here/jobs
export UNLEARN_JOBS
PATH=$work/bin:$PATH
TWO="mpirun -np 2"

if command -v shellcheck >/dev/null; then
    check "shellcheck" sh -c "cd '$here' && shellcheck -x jobs/*.sh inputs/paper/*.sh"
else
    echo "skipped: no shellcheck here" && skipped=1
fi

# --------------------------------------------------------------------------------------------------------------- a table
cat >two.runs <<'RUNS'
inputs/a.b.yaml output.directory=outputs/first train.steps=1
inputs/a.b.yaml output.directory=outputs/second
RUNS
job() { # job SCRIPT [NAME=VALUE ...]: one job to its end, in a process group of its own
    script=$1
    shift
    env "$@" timeout --foreground 100 setsid bash "$here/jobs/$script" >>log 2>&1
}
job local.sh "LAUNCH=$TWO" RUN="two.runs train.steps=2" TASK=1
check "a line of a table, with what follows it" [ "$(grep -c '^update  ' outputs/first/run.log)" = 2 ]
job local.sh "LAUNCH=$TWO" RUN=two.runs
check "a table without a line's number" [ $? = 2 ]
mkdir -p outputs/killed/checkpoint-1.tmp
job local.sh "LAUNCH=$TWO" RUN="inputs/a.b.yaml output.directory=outputs/killed train.steps=2" RENEW=1
check "killed while it saved its first checkpoint: it begins again" [ "$? $(ls outputs/killed/run.finished)" = "0 outputs/killed/run.finished" ]
cp -r outputs/killed outputs/scored
rm -r outputs/scored/run.finished outputs/scored/model
touch outputs/scored/TOFU_SUMMARY.json
job local.sh "LAUNCH=$TWO" RUN="inputs/a.b.yaml output.directory=outputs/scored train.steps=2" RENEW=1
check "scored, without a model: it is not complete" [ "$? $(ls outputs/scored/run.finished)" = "0 outputs/scored/run.finished" ]
job local.sh "LAUNCH=$TWO" RUN=two.runs TASK=3
check "a line that is not there" [ $? = 2 ]
check "is named" has 'local.sh: two.runs: has no line 3' log
job local.sh
check "nothing to run" [ $? = 2 ]

# ------------------------------------------------------------------------------------------------------------------- PBS
# Lines of `qstat -f` break at 80 columns and go on after a tab.
attributes() { # attributes WALLTIME
    printf 'Job Id: 1.server\n    Job_Name = unlearn\n    project = _pbs_project_default\n    Account_Name = physics\n'
    printf '    depend = beforeok:7.server@server:8.ser\n\tver@server\n    Resource_List.place = scatter\n'
    printf '    Resource_List.select = 1:ncpus=2:mpiprocs=2\n\t:ompthreads=1\n    Resource_List.walltime = %s\n' "$1"
}
cat >bin/qstat <<'SH'
#!/bin/sh
case $2 in
7.*) printf '    depend = afterok:1.server@server:3.server@server,beforeok:9.server@server\n' ;;
8.*) printf '    depend = afterok:1.server@server\n' ;;
*) cat qstat.out ;;
esac
! grep -qx "$2" waiting 2>/dev/null || echo '    job_state = H'
SH
cat >bin/qsub <<'SH'
#!/bin/sh
case $* in *"-v PYTHON"*) [ -n "${PYTHON+x}" ] || { echo "qsub: cannot send environment with the job" >&2 && exit 1; } ;; esac
echo "$* RUN=$RUN TASK=$TASK FIRST_JOB=$FIRST_JOB" >>qsub.log
echo "$(($(wc -l <qsub.log) + 1)).server"
SH
cat >bin/qalter <<'SH'
#!/bin/sh
echo "$*" >>qalter.log
SH
chmod +x bin/*
printf 'localhost\nlocalhost\n' >hosts
PBS="PBS_O_WORKDIR=$work PBS_NODEFILE=hosts PBS_O_QUEUE=batch OMP_NUM_THREADS=1"
cores=$(env -u OMP_NUM_THREADS nproc) # two: as the script itself starts it, a process for each line of the hosts, bound to cores
launch() { test "$cores" -ge 2 && echo AS_IT_IS=1 || echo "LAUNCH=$TWO"; }
attributes 00:00:02 >qstat.out
echo "pbs 1.server 7" >outputs/.job-second # as of a chain
# shellcheck disable=SC2086
job pbs.sh $PBS "$(launch)" PBS_JOBID=1.server PBS_ARRAY_INDEX=2 RUN=two.runs
check "PBS: the end of its time" [ $? = 75 ]
check "PBS: a checkpoint" saved outputs/second
check "PBS: another job, with what this one asked for" has \
    '^-l select=1:ncpus=2:mpiprocs=2:ompthreads=1 -l place=scatter -l walltime=00:00:02 -A physics -P _pbs_project_default -q batch ' qsub.log
check "PBS: for the same line" has 'jobs/pbs.sh RUN=two.runs TASK=2 FIRST_JOB=1.server$' qsub.log
check "PBS: whose end others wait for now" [ "$(cat qalter.log)" = "-W depend=afterok:2.server:3.server@server 7.server@server
-W depend=afterok:2.server 8.server@server" ]
check "PBS: which a chain finds" [ "$(cat outputs/.job-second)" = "pbs 2.server 7" ]
attributes 01:00:00 >qstat.out
# shellcheck disable=SC2086
job pbs.sh $PBS "$(launch)" PBS_JOBID=2.server RUN=two.runs TASK=2 FIRST_JOB=1.server
check "PBS: it goes on to the end" [ $? = 0 ]
check "PBS: from its checkpoint" has '^restart    from outputs/second/checkpoint-' outputs/second/run.log
check "PBS: on two processes" has 'data 2\|2 processes' outputs/second/run.log
same PBS outputs/second
check "PBS: nothing more was queued or counted" [ "$(wc -l <qsub.log) $(find outputs -name '.attempts*' | wc -l)" = "1 0" ]

# ------------------------------------------------------------------------------------------------------------------- LSF
long="inputs/a.b.yaml output.directory=outputs/long train.steps=1000000"
LSF="LSB_JOBID=5 LSB_JOBINDEX=0 THREADS=1 RESTARTS=1"
# shellcheck disable=SC2086
job lsf.sh $LSF "LAUNCH=$TWO" RUN="$long" &
running=$!
until_true 60 saved outputs/long
script() { pgrep -f "^bash $here/jobs/lsf.sh"; }
bash -c "kill -USR1 -- -$(ps -o pgid= -p "$(script)" | tr -d ' ')" # as LSF does: script, mpirun and program at the same time
wait $running
check "LSF: a signal to all of the job" [ $? = 75 ]
check "LSF: is asked for again by that status alone" has 'lsf.sh: stopped with a checkpoint; job 5 is queued again' log
stop() { has '^restart ' outputs/long/run.log && touch outputs/long/STOP; }
# shellcheck disable=SC2086
job lsf.sh $LSF "LAUNCH=$TWO" RUN="$long" &
running=$!
until_true 60 stop
wait $running
check "LSF: too often: a status that queues nothing" [ $? = 1 ]
check "LSF: it says so" has 'lsf.sh: stopped with a checkpoint after 1 restarts: submit again to go on' log
check "LSF: what was counted is gone" [ ! -e outputs/.attempts-lsf-5- ]
grep -c '^restart ' outputs/long/run.log >before
begun_again() { [ "$(grep -c '^restart ' outputs/long/run.log)" -gt "$(cat before)" ]; }
# shellcheck disable=SC2086
job lsf.sh $LSF "LAUNCH=$TWO" RUN="$long" &
running=$!
until_true 60 begun_again
kill -TERM "$(script)" # bkill
wait $running
check "LSF: ended from outside: a checkpoint, and no wish to go on" [ $? = 143 ]

# ----------------------------------------------------------------------------------------------------------------- a chain
ln -s "$here/inputs/paper" "$here/inputs/demo" inputs
cat >bin/bsub <<'SH'
#!/bin/sh
cat >script
echo "$* RUN=$RUN TASK=$TASK" >>bsub.log
[ ! -e bsub.fails ] || exit 255
echo "Job <$(wc -l <bsub.log)> is submitted to queue <normal>."
SH
cat >bin/bjobs <<'SH'
#!/bin/sh
printf 'JOBID USER STAT QUEUE FROM_HOST EXEC_HOST JOB_NAME SUBMIT_TIME\n'
case $1 in 1) echo "$1 me RUN normal a b unlearn x" ;; [23]) echo "$1 me PEND normal a unlearn x" ;; *) echo "$1 me EXIT normal a unlearn x" ;; esac
SH
cat >bin/sbatch <<'SH'
#!/bin/sh
echo "$*" >>sbatch.log
wc -l <sbatch.log
SH
cat >bin/squeue <<'SH'
#!/bin/sh
case $* in *" 1") echo RUNNING ;; *" "[23]) echo PENDING ;; *" 4") echo FAILED ;; *) echo "Invalid job id specified" >&2 && exit 1 ;; esac
SH
chmod +x bin/*
rm qsub.log
chain() { OPTIONS=$OPTIONS bash "$here/jobs/chain.sh" "$@" >>log 2>&1; }
OPTIONS="-P physics" chain pbs demo forget05 wga
table=$(echo outputs/demo/forget05/chain-*.runs)
cp "$table" first
check "a chain in PBS" [ "$(sed 's/ -v .*jobs.pbs.sh//; s/ FIRST_JOB=$//' qsub.log)" = "-P physics -N unlearn-finetun RUN=$table TASK=1
-P physics -N unlearn-retrain RUN=$table TASK=2
-P physics -W depend=afterok:2.server:3.server -N unlearn-retrain RUN=$table TASK=3
-P physics -W depend=afterok:2.server -N unlearn-wga RUN=$table TASK=4
-P physics -W depend=afterok:5.server:4.server -N unlearn-wga-eva RUN=$table TASK=5
-P physics -W depend=afterok:6.server -N unlearn-report -j oe RUN=$table TASK=" ]
rm qsub.log
OPTIONS='' chain pbs demo forget05 @learn wga
check "another chain has a table of its own" [ "$(grep -c "RUN=$table" qsub.log) $(cmp "$table" first 2>&1)" = "0 " ]
check "what is asked for twice runs once" [ "$(wc -l <qsub.log) $(grep -c "unlearn-retrain .*TASK=2" qsub.log)" = "7 1" ]
rm qsub.log
sed -n 's/^pbs \([^ ]*\) .*/\1/p' outputs/.job-demo-finetune outputs/.job-demo-forget05-retrain >waiting
OPTIONS='' chain pbs demo forget05 npo
check "a chain in PBS waits for the jobs of another" [ "$(sed 's/ -v .*jobs.pbs.sh//; s/ RUN=.*//' qsub.log)" = "\
-W depend=afterok:2.server:3.server -N unlearn-retrain
-W depend=afterok:2.server -N unlearn-npo
-W depend=afterok:3.server:2.server -N unlearn-npo-eva
-W depend=afterok:4.server -N unlearn-report -j oe" ]
rm qsub.log
OPTIONS='' chain pbs demo forget05 npo train.steps=3
check "but not for one that makes it with other keys" [ "$? $(ls qsub.log 2>&1 | grep -c "^qsub.log$")" = "2 0" ]
check "which it says" has 'outputs/demo/finetune: job .* is to make it, with other keys: cancel that job' log
rm waiting
touch bsub.fails
OPTIONS='' chain lsf demo forget05 wga
check "a job that LSF refuses ends the chain" [ "$? $(wc -l <bsub.log)" != "0 6" ]
rm bsub.fails bsub.log
OPTIONS='' chain lsf demo forget05 wga
check "a chain in LSF" [ "$(cat bsub.log)" = "-J unlearn-finetune RUN=$table TASK=1
-J unlearn-retrain RUN=$table TASK=2
-ti -w done(1) && done(2) -J unlearn-retrain-evaluation RUN=$table TASK=3
-ti -w done(1) -J unlearn-wga RUN=$table TASK=4
-ti -w done(4) && done(3) -J unlearn-wga-evaluation RUN=$table TASK=5
-ti -w done(5) -J unlearn-report RUN=$table TASK=" ]
check "a chain that is started again has the table that it had" [ "$(echo outputs/demo/forget05/chain-*.runs | wc -w)" = 4 ]
check "its last script makes the report" has 'jobs/report.sh.* .outputs/demo/forget05. wga$' script
rm bsub.log
OPTIONS='' chain lsf demo forget05 npo
check "a chain in LSF waits for the jobs of another" [ "$(sed 's/ RUN=.*//' bsub.log)" = "-ti -w done(1) -J unlearn-npo
-ti -w done(1) && done(3) -J unlearn-npo-evaluation
-ti -w done(2) -J unlearn-report" ]
rm bsub.log
OPTIONS='' chain slurm demo forget05 wga
check "what other schedulers have submitted is not waited for" [ "$(grep -c . sbatch.log)" = 6 ]
rm sbatch.log
OPTIONS='' chain slurm demo forget05 npo
check "a chain in Slurm waits for the jobs of another" [ "$(sed 's/ --kill.*--job-name=/ /; s/ [^ ]*slurm.sh//; s/ --output.*//' sbatch.log)" = "\
--parsable --dependency=afterok:1 unlearn-npo
--parsable --dependency=afterok:1:3 unlearn-npo-evaluation
--parsable --dependency=afterok:2 unlearn-report" ]

rm sbatch.log outputs/.job-demo-*
cp -r "$here/jobs" alone
quoted='data.template.question_end="\nQ\c"'
CDPATH=.:/ bash alone/chain.sh slurm demo forget05 wga "$quoted" >>log 2>&1
check "a backslash in a key ends no line, with CDPATH set" [ "$? $(grep -c . sbatch.log)" = "0 6" ]
table=$(ls -t outputs/demo/forget05/chain-*.runs | head -n 1)
check "and every line has it" [ "$(wc -l <"$table") $(grep -cF " $quoted" "$table")" = "5 5" ]
rm alone/common.sh
bash alone/chain.sh slurm demo forget05 wga >said 2>&1
check "without common.sh nothing is complete ($?)" [ "$(grep -c complete said)" = 0 ]

short="train.steps=2 evaluate.rows=2 evaluate.max_length=40"
PYTHON=$here/${VENV:-.venv}/bin/python
case ${VENV:-} in /*) PYTHON=$VENV/bin/python ;; esac
if [ ! -x "$PYTHON" ]; then
    echo "skipped: no Python packages for the report of a chain" && skipped=$((skipped + 1))
    PYTHON=true
fi
export PYTHON
# shellcheck disable=SC2086
RANKS=2 chain local demo forget05 wga+kl $short
check "a chain that runs here" [ $? = 0 ]
for run in finetune forget05/retrain forget05/wga+kl; do
    check "it has $run" [ -e outputs/demo/$run/run.finished ]
done
check "forget quality against the retrained model" has '"forget_quality": 0\|"forget_quality": 1' \
    outputs/demo/forget05/wga+kl/evaluation/TOFU_SUMMARY.json
test "$PYTHON" = true || check "a report" [ -n "$(find outputs/demo/forget05 -maxdepth 1 -name 'report.*' -size +1k)" ]
rm -r outputs/demo/forget05/wga+kl/evaluation outputs/demo/forget05/report.*
mv outputs/demo/finetune/model made-elsewhere
rm -r outputs/demo/finetune/*
ln -s ../../../made-elsewhere outputs/demo/finetune/model
# shellcheck disable=SC2086
RANKS=2 chain local demo forget05 wga+kl $short
check "again: only what is missing, from a model that was made elsewhere" [ "$(tail -n 6 log | grep -c ': complete$') $(tail -n 6 log | grep -c ': done$')" = "4 2" ]
chain local demo forget05 nothing
check "an experiment that is not there" [ $? = 2 ]
chain nothing demo forget05 ga
check "a scheduler that is not there" [ $? = 2 ]
test $failed = 0 || cat log
echo "$passed passed, $failed failed$(test $skipped = 0 || echo ", $skipped skipped")"
[ $failed = 0 ]
