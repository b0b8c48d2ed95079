#!/bin/sh
# valgrind on one small run in double: one update of npo + kl, measured, by tensor. A build of its own: valgrind does not know
# all that -march=native uses. Errors of any kind fail it; Open MPI's own are left out by the list that comes with it.
# Leaks are the sanitizers' business (make SANITIZE=1 test).
cd "$(dirname "$0")/.." || exit 2
. tests/env.sh
skip() {
    echo "skipped: $1"
    exit 77
}
case_=$(cd "${SHARED:-../shared}" 2>/dev/null && pwd)/golden/models/llama
test -z "$VARIANT" || skip "the sanitizers' build is not for valgrind"
command -v valgrind >/dev/null || skip "valgrind is not installed"
test -f "$case_/expected.h5" || skip "$case_ is not there"

program=$PWD/build/valgrind/unlearn-double
make -s PRECISION=double B=build/valgrind EXE="$program" CFLAGS='-O1 -g' "$program" || exit 1
work=$(mktemp -d) || exit 2
trap 'rm -rf "$work"' EXIT
cat >"$work/input.yaml" <<EOF
task: unlearn
output: {directory: $work/out}
model: {path: $case_/model, reference: $case_/reference}
data:
  template: qa
  max_length: 70
  forget: {path: $case_/forget.jsonl, rows: 2}
  retain: {path: $case_/retain.jsonl, rows: 2, held_out: 0}
objective: {name: npo, regularizer: [{name: kl}]}
train: {steps: 1, batch_size: 2, accumulation: 1}
geffect: {every: 1, objectives: [ga, npo], resolution: tensor}
EOF
list=$(find /usr/share/openmpi /usr/lib -name openmpi-valgrind.supp 2>/dev/null | head -n 1)
OMPI_MCA_ess_singleton_isolated=1 valgrind --quiet --error-exitcode=9 --num-callers=20 --log-file="$work/valgrind.log" \
    ${list:+"--suppressions=$list"} "$program" "$work/input.yaml" >"$work/run.log" 2>&1
status=$?
if [ $status != 0 ]; then
    echo "exit status $status (9: valgrind's)"
    tail -n 20 "$work/run.log"
    head -n 100 "$work/valgrind.log"
fi
test $status = 0
