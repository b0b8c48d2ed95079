#!/bin/sh
# `make demo`: a model of a million parameters learns 400 facts about invented authors, then forgets two of the authors,
# while the G-effects of the forgetting are measured; a summary and a picture at the end. NP processes (2).
. "$(dirname "$0")/env.sh"
NP=${NP:-2}
out=outputs/demo-unlearn

run() { # run INPUT: its log goes to the run's directory; here a line now and then
    echo "== mpirun -np $NP $PROGRAM --overwrite $1"
    mpirun -np "$NP" "$PROGRAM" --overwrite "$1" >outputs/demo.log || { tail -n 5 outputs/demo.log; exit 1; }
    grep -E '^update +([0-9]*00|1)/|^measured|^total' outputs/demo.log
}
mkdir -p outputs
run inputs/demo-finetune.yaml || exit 1
run inputs/demo-unlearn.yaml || exit 1
rm -f outputs/demo.log
echo
echo "$out/geffect.h5:"
"$PYTHON" analysis/summary.py --brief "$out/geffect.h5" && "$PYTHON" analysis/plot.py "$out/geffect.h5" "$out/geffect.png" >/dev/null &&
    echo "picture: $out/geffect.png"
