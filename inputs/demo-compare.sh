#!/bin/sh
# The unlearned model beside the original and the retrained one: trains the last, evaluates all three, prints one table.
# After `make demo`; about two minutes. NP processes (2).
. "$(dirname "$0")/env.sh"
NP=${NP:-2}
out=outputs/demo-evaluate

run() { # run NAME INPUT [KEY=VALUE ...]
    name=$1; shift
    echo "== $name: mpirun -np $NP $PROGRAM --overwrite $*"
    mpirun -np "$NP" "$PROGRAM" --overwrite "$@" >outputs/demo.log || { tail -n 5 outputs/demo.log; exit 1; }
}
test -e outputs/demo-unlearn/model || { echo "demo-compare.sh: first run \`make demo\`"; exit 1; }
run "never saw them" inputs/demo-retrained.yaml || exit 1
run "retrained" inputs/demo-evaluate.yaml model.path=outputs/demo-retrained/model output.directory=$out-retrained || exit 1
log=evaluate.retain_logs=$out-retrained/eval_log_aggregated.json
run "original" inputs/demo-evaluate.yaml model.path=outputs/demo-finetune/model output.directory=$out-original $log || exit 1
run "unlearned" inputs/demo-evaluate.yaml output.directory=$out-unlearned $log || exit 1
rm -f outputs/demo.log
echo
"$PYTHON" analysis/unlearn-report compare original=$out-original unlearned=$out-unlearned retrained=$out-retrained
