#!/bin/sh
# `make demo`: a model of a million parameters learns 400 facts about invented authors, then forgets two of the authors,
# while the G-effects of the forgetting are measured; a summary, a picture and a page of all pictures at the end. NP processes (2).
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
"$PYTHON" -c 'import h5netcdf, matplotlib, xarray' 2>/dev/null || {
    echo "demo.sh: tables and pictures need packages: $PYTHON -m pip install $TOP/analysis, or PYTHON=FILE that has them"
    exit 1
}
"$PYTHON" analysis/unlearn-report summary --brief "$out" && "$PYTHON" analysis/unlearn-report figures --only story "$out" >/dev/null &&
    "$PYTHON" analysis/unlearn-report report "$out" -o "$out/report.html" >/dev/null &&
    echo "picture: $out/figures/story.png" && echo "report:  $out/report.html"
