#!/bin/bash
# What came out of a chain: the pictures and the scores of its runs.
#   bash jobs/report.sh outputs/MODEL/SPLIT NAME ...                      PYTHON=.venv/bin/python
set -u
analysis=$(cd "$(dirname "$0")/../analysis" && pwd) || exit 2
python=${PYTHON:-.venv/bin/python}
out=$1
shift
if [ -e "$analysis/unlearn-report" ]; then
    exec "$python" "$analysis/unlearn-report" report "${@/#/$out/}" -o "$out/report.html"
fi
scores=(retrain="$out/retrain/evaluation")
for name; do
    "$python" "$analysis/plot.py" "$out/$name/geffect.h5" "$out/$name/geffect.png" || exit
    scores+=("$name=$out/$name/evaluation")
done
"$python" "$analysis/compare.py" "${scores[@]}" | tee "$out/report.txt"
