#!/bin/sh
# Runs the tests and counts them; the last line is `N passed, N failed`, with `, N skipped` where some were.
#     tests/run.sh [WORD ...]        those whose name contains one of the words; all without
# tests/test_*.c   cmocka programs, on each number of ranks in their first line (NP: 1 2 4), in each precision; in float,
#                  where layouts are the same code, on the first two of them alone, unless THOROUGH=1
# tests/*_test.sh  shell scripts;  tests/*.py whose first line says "end to end": scripts for the Python of VENV.
# A script's last line may count its own checks in the same form; exit status 77 means skipped.
# A line tells the seconds that a test took, and those of all processors.
# Environment: THOROUGH (all models and layouts in every precision, which takes some times as long), SHARED, VENV,
# VARIANT (-sanitize), PRECISIONS, JOBS (programs of one rank at the same time; of scripts one more).
cd "$(dirname "$0")/.." || exit 2
JOBS=${JOBS:-$(nproc)} # before OMP_NUM_THREADS=1, which nproc heeds
. tests/env.sh
SHARED=$(cd "${SHARED:-../shared}" 2>/dev/null && pwd || echo "${SHARED:-../shared}")
VENV=${VENV:-.venv} PRECISIONS=${PRECISIONS:-float double}
export SHARED VENV VARIANT PRECISIONS JOBS

# One run, in a process of its own: run.sh --one RESULTS KIND FILE NP PRECISION. Writes RESULTS/NAME.out and .count
# (passed failed skipped) and prints a line.
if [ "$1" = --one ]; then
    results=$2 kind=$3 file=$4 np=$5 precision=$6
    base=$(basename "${file%.*}")
    case $kind in
    c) name=$base.$precision.np$np limit=300 shown="$base, $precision, $np rank$(test "$np" = 1 || echo s)"
        set -- mpirun -np "$np" "build/$precision$VARIANT/tests/$base"
        test -x "$4" || set -- sh -c "echo $4 is not built: make tests; exit 1" ;;
    sh) name=$base limit=900 shown=$file; set -- sh "$file" ;;
    py) name=$base limit=1800 shown=$file; set -- "$VENV/bin/python" "$file"
        test -x "$1" || set -- sh -c 'echo "skipped: no Python packages: make venv"; exit 77' ;;
    esac
    test -z "$VARIANT" || limit=$((3 * limit))
    begin=$(date +%s)
    timeout -k 10 "$limit" "$@" >"$results/$name.out" 2>&1 </dev/null
    status=$?
    own=$(tail -n 1 "$results/$name.out" |
        sed -n 's/^\([0-9]*\) passed, \([0-9]*\) failed\(, \([0-9]*\) skipped\)*$/\1 \2 \4/p')
    if [ "$kind" != c ] && [ -n "$own" ]; then
        set -- $own
        count="$1 $2 ${3:-0}"
        test $status = 0 || test "$2" != 0 || count="$1 1 ${3:-0}"
    elif [ $status = 77 ]; then count="0 0 1"
    elif [ $status != 0 ]; then count="0 1 0"
    elif [ "$kind" = c ] && ! grep -q '\[  PASSED  \] [1-9]' "$results/$name.out"; then count="0 0 1"
    else count="1 0 0"; fi
    echo "$count" >"$results/$name.count"
    set -- $count
    word=ok
    test "$3" = 0 || word=skipped
    test "$2" = 0 || word=FAILED
    test $status != 124 || shown="$shown: stopped after $limit s"
    took=$(($(date +%s) - begin))
    times >"$results/$name.times" # not into a pipe: there it would tell of another process
    used=$(awk -F '[ms ]+' 'NR == 2 { printf "%.0f", 60 * $1 + $2 + 60 * $3 + $4 }' "$results/$name.times")
    printf '%-8s%s (%d s, %s s of processors)\n' $word "$shown" $took "$used"
    exit 0
fi

wanted() { # wanted NAME WORD...
    name=$1
    shift
    test $# = 0 && return 0
    for word; do case $name in *"$word"*) return 0 ;; esac; done
    return 1
}

results=$(mktemp -d) || exit 2
trap 'rm -rf "$results"' EXIT
trap 'exit 130' INT TERM
for file in tests/test_*.c; do
    wanted "$file" "$@" || continue
    ranks=$(sed -n '1s/.*NP: *\([0-9 ]*\).*/\1/p' "$file")
    for precision in $PRECISIONS; do
        some=$ranks
        test "$precision" = double || test -n "$THOROUGH" || some=$(echo "$ranks" | cut -d ' ' -f 1,2)
        for np in ${some:-1}; do
            list=serial
            test "$np" = 1 || list=parallel
            echo "$results c $file $np $precision" >>"$results/$list"
        done
    done
done
for file in tests/*_test.sh; do
    case $file in tests/jobs_* | tests/slurm_*) list=scripts ;; *) list=serial ;; esac # those two wait more than they work
    wanted "$file" "$@" && echo "$results sh $file 1 -" >>"$results/$list"
done
longest="models golden trajectories claims trainer open_unlearning evaluation stories" # first, so that none is left for the end
for file in $(for name in $longest; do echo tests/$name.py; done; find tests -maxdepth 1 -name '*.py' | sort); do
    grep -qs " $file " "$results/scripts" && continue
    head -n 1 "$file" | grep -q 'end to end' && wanted "$file" "$@" && echo "$results py $file 1 -" >>"$results/scripts"
done
touch "$results/serial" "$results/parallel" "$results/scripts"
xargs -r -P "$JOBS" -L 1 sh tests/run.sh --one <"$results/serial"
while read -r line; do
    # shellcheck disable=SC2086
    sh tests/run.sh --one $line
done <"$results/parallel"
# one more than processors: a third of their time scripts wait for programs that start and stop
xargs -r -P $((JOBS + 1)) -L 1 sh tests/run.sh --one <"$results/scripts"

started=$(cat "$results/serial" "$results/parallel" "$results/scripts" | wc -l)
counted=$(find "$results" -name '*.count' | wc -l)
if [ "$started" != "$counted" ]; then
    echo "of $started tests so many were ended by something else before they could tell: $((started - counted))" >"$results/ended.out"
    echo "0 $((started - counted)) 0" >"$results/ended.count"
fi
for count in "$results"/*.count; do
    test -e "$count" || continue
    read -r passed failed skipped <"$count"
    name=$(basename "$count" .count)
    if [ "$failed" != 0 ]; then
        echo "---------------- $name failed:"
        tail -n 150 "$results/$name.out"
    elif [ "$skipped" != 0 ]; then
        echo "---------------- $name skipped:"
        grep -i skip "$results/$name.out" | sort -u | tail -n 5
    fi
done
cat "$results"/*.count 2>/dev/null | awk '{ passed += $1; failed += $2; skipped += $3 }
    END {
        if (passed + failed + skipped == 0) { print "no test has such a name"; failed = 1 }
        printf "%d passed, %d failed%s\n", passed, failed, skipped ? ", " skipped " skipped" : ""
        exit failed > 0
    }'
