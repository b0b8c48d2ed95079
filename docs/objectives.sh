#!/bin/sh
# The runs behind docs/OBJECTIVES.md: the demo's model forgets the demo's two authors by every objective, alone and with gd on what
# must stay, at one learning rate; then the pictures. Some minutes on two cores.
#   sh docs/objectives.sh             after `make demo`; results in outputs/objectives
cd "$(dirname "$0")/.." || exit 2
. tests/env.sh
set -f
PYTHON=${PYTHON:-.venv/bin/python} OUT=${OUT:-outputs/objectives}
OBJECTIVES=${OBJECTIVES:-ga wga npo tnpo wtnpo rmu po simnpo satimp ceu undial dpo pdu}
for o in $OBJECTIVES; do
    for with in "alone []" "gd gd"; do
        dir=$OUT/$o-${with% *}
        test -e "$dir/run.finished" && continue
        echo "$o ${with% *}"
        ./unlearn --overwrite "inputs/objectives/$o.yaml" output.directory="$dir" objective.regularizer="${with#* }" \
            optimizer.lr=2e-4 train.epochs=10 train.batch_size=4 geffect.every=5 geffect.objectives=[] checkpoint.export=false \
            >/dev/null || exit 1
    done
done
"$PYTHON" docs/objectives.py "$OUT"
