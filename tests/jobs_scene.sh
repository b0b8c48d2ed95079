# shellcheck shell=sh
# Sourced by the tests of jobs/: a directory to work in, a small input, what an undisturbed run of it leaves, checks and waits.
here=$(cd "$(dirname "$0")/.." && pwd)
# shellcheck source=/dev/null
. "$here/tests/env.sh"
command -v bash >/dev/null || { echo "skipped: no bash"; exit 77; }
UNLEARN=$here/unlearn
test -z "$VARIANT" || UNLEARN=$here/build/float$VARIANT/unlearn
for file in "$UNLEARN" "$here/build/faults_shim.so"; do
    test -e "$file" || { echo "skipped: $file is not built"; exit 77; }
done
export UNLEARN
work=$(mktemp -d) || exit 1
passed=0 failed=0
end() {
    for pid in "$work"/slurm/*.pid; do # Slurm's, where a test has started it
        test -s "$pid" && kill "$(cat "$pid")" 2>/dev/null
    done
    rm -rf "$work" 2>/dev/null || { sleep 2; rm -rf "$work"; }
}
trap end EXIT
trap 'exit 130' INT TERM
cd "$work" || exit 1

check() { # check TEXT CONDITION...
    text=$1
    shift
    if "$@"; then passed=$((passed + 1)); else failed=$((failed + 1)); echo "FAILED: $text"; fi
}
until_true() { # until_true SECONDS CONDITION...
    left=$(($1 * 5))
    shift
    until "$@" 2>/dev/null; do
        left=$((left - 1))
        test $left -gt 0 || return 1
        sleep 0.2
    done
}
has() { grep -q "$1" "$2" 2>/dev/null; }
saved() { ls -d "$1"/checkpoint-*[0-9] >/dev/null 2>&1; }

# A drawn model of one block on rows of the demo; 40 updates with a checkpoint at each.
mkdir base inputs
sed 's/"num_hidden_layers": [0-9]*/"num_hidden_layers": 1/' "$here/inputs/demo/model/config.json" >base/config.json
cp "$here/inputs/demo/model/tokenizer.json" base
head -n 4 "$here/inputs/demo/forget05.jsonl" >rows.jsonl
cat >inputs/a.b.yaml <<'YAML'
task: finetune
model: {path: base, init: random}
data: {max_length: 48, forget: rows.jsonl}
train: {steps: 40, batch_size: 2, accumulation: 1}
checkpoint: {every: 1}
output: {directory: outputs/a.b}
YAML
mpirun -np 2 "$UNLEARN" inputs/a.b.yaml output.directory=whole >log 2>&1
check "an undisturbed run" [ $? = 0 ]
same() { # same TEXT DIRECTORY
    check "$1: the model of an undisturbed run" cmp -s whole/model/model.safetensors "$2/model/model.safetensors"
    check "$1: every update once" [ "$(grep -c '^update  ' "$2/run.log")" = 40 ]
}

