#!/bin/sh
# valgrind on small runs in double: one update of npo + kl, measured, by tensor, with a checkpoint; a second update that goes on
# from it; with ALL=1 also an evaluation and two answers. A build of its own: valgrind does not know all that -march=native
# uses. Errors of any kind fail it; Open MPI's own are left out by the list that comes with it.
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
checkpoint: {every: 1}
EOF
cat >"$work/evaluate.yaml" <<EOF
task: evaluate
output: {directory: $work/evaluated}
model: {path: $case_/model, reference: $case_/reference}
data: {template: qa, max_length: 70}
evaluate:
  rows: 1
  max_length: 70
  sets: {forget: $case_/forget.jsonl, retain: $case_/retain.jsonl}
EOF
cat >"$work/generate.yaml" <<EOF
task: generate
output: {directory: $work/generated}
model: {path: $case_/model}
data: {template: qa}
generate: {prompts: $case_/forget.jsonl, rows: 2, max_length: 60}
EOF
list=$(find /usr/share/openmpi /usr/lib -name openmpi-valgrind.supp 2>/dev/null | head -n 1)
watched() { # watched STATUS ARGUMENT...: a run of the program, which must end with this status
    expected=$1
    shift
    OMPI_MCA_ess_singleton_isolated=1 valgrind --quiet --error-exitcode=9 --num-callers=20 --log-file="$work/valgrind.log" \
        ${list:+"--suppressions=$list"} "$program" "$@" >"$work/run.log" 2>&1
    status=$?
    test $status = "$expected" && return
    echo "$*: exit status $status, not $expected (9: valgrind's)"
    tail -n 20 "$work/run.log"
    head -n 100 "$work/valgrind.log"
    exit 1
}
watched 0 "$work/input.yaml"
watched 0 --restart "$work/input.yaml" train.steps=2
grep -q 'restart  *from' "$work/run.log" || { echo "it did not go on from the checkpoint"; exit 1; }
test -n "$ALL" || exit 0 # `make analyse` has the time for the others too
watched 0 "$work/evaluate.yaml"
watched 0 "$work/generate.yaml"
