#!/bin/sh
# The right kernels of the BLAS without being told: a library that does not know the processor (tests/old_library.c, preloaded) is
# raised to what the processor can do, once; what the user sets is obeyed; what gives wrong products is left again.
cd "$(dirname "$0")/.." || exit 2
. tests/env.sh
unset OPENBLAS_CORETYPE LD_PRELOAD
skip() {
    echo "skipped: $1"
    exit 77
}
old=Prescott # of 2004: every x86-64 processor runs it, every library has it
kernels() { "$@" --version 2>&1 | sed -n 's/^OpenBLAS .* \([^ ]*\) MAX_THREADS=.*/\1/p'; }
precisions=
for p in ${PRECISIONS:-float double}; do
    if [ "$p" = double ]; then program=./unlearn-double; else program=./unlearn; fi
    [ -x $program ] && precisions="$precisions $program"
done
test -z "$VARIANT" || skip "the sanitizers want to be loaded first"
test -n "$precisions" || { echo "no program is built"; exit 1; }
if grep -q '^flags.* avx512f' /proc/cpuinfo && grep -q '^flags.* avx512bw' /proc/cpuinfo &&
    grep -q '^flags.* avx512dq' /proc/cpuinfo && grep -q '^flags.* avx512vl' /proc/cpuinfo; then best=SKYLAKEX has=AVX-512
elif grep -q '^flags.* avx2' /proc/cpuinfo && grep -q '^flags.* fma' /proc/cpuinfo; then best=HASWELL has=AVX2
else skip "no processor with kernels above the oldest"; fi
work=$(mktemp -d) || exit 2
trap 'rm -rf "$work"' EXIT
mpicc -Wall -Wextra -Werror -O1 -shared -fPIC -o "$work/old.so" tests/old_library.c -ldl || exit 1
passed=0 failed=0
check() { # check TEXT CONDITION...
    text=$1
    shift
    if "$@"; then passed=$((passed + 1)); else failed=$((failed + 1)); echo "FAILED: $text: $*"; fi
}
starts() { wc -l <"$work/starts" 2>/dev/null || echo 0; }
with() { # with "NAME=VALUE ..." COMMAND...: with a library that chooses the oldest kernels
    set_=$1
    shift
    rm -f "$work/starts"
    # shellcheck disable=SC2086
    env "LD_PRELOAD=$work/old.so" "OLD_KERNELS=$old" "STARTS=$work/starts" $set_ "$@"
}
is() { # is TEXT KERNELS STARTS "NAME=VALUE ..." COMMAND...
    subject=$1 want=$2 want_starts=$3
    shift 3
    check "$subject: kernels" [ "$(kernels with "$@")" = "$want" ]
    check "$subject: starts" [ "$(starts)" = "$want_starts" ]
}

for program in $precisions; do
    raised=$(kernels env OPENBLAS_CORETYPE=$best $program)
    case $(kernels env OPENBLAS_CORETYPE=$old $program) in "$old") ;; *) skip "no OpenBLAS that chooses when it starts" ;; esac
    is "$program: an old library is raised" "$raised" 2 "" $program
    is "$program: the user's choice is obeyed" $old 1 OPENBLAS_CORETYPE=$old $program
    is "$program: also where it is the best" "$raised" 1 OPENBLAS_CORETYPE=$best $program
    is "$program: a library without other kernels is asked once" $old 2 OLD_HEEDS=no $program
    is "$program: wrong products are left again" $old 3 "OLD_WRONG=$raised" $program
    is "$program: where it cannot be started anew it goes on" $old 1 OLD_EXEC=no $program
    is "$program: a library that knows the processor is left alone" "$raised" 1 "OLD_KERNELS=$best" $program
    is "$program: names are found on PATH" "$raised" 2 "PATH=$PWD:$PATH" "${program#./}"
    linker=/lib64/ld-linux-x86-64.so.2
    if [ -x $linker ]; then is "$program: called through the dynamic linker" $old 1 "" $linker $program; fi

    $program --help >"$work/help"
    with "" $program --help >"$work/help.old" 2>&1
    check "$program: --help ends well" [ $? = 0 ]
    check "$program: --help says the same" cmp -s "$work/help" "$work/help.old"
    with "" $program --no-such-option "two words" >"$work/out" 2>&1
    check "$program: the status of wrong usage" [ $? = 2 ]
    check "$program: one line says what is wrong" [ "$(grep -c 'no-such-option: there is no such option' "$work/out")" = 1 ]
done

case_=$(cd "${SHARED:-../shared}" 2>/dev/null && pwd)/golden/models/llama
if [ -f "$case_/expected.h5" ]; then
    cat >"$work/input file.yaml" <<EOF
task: unlearn
output: {directory: "$work/out of it"}
model: {path: $case_/model}
data:
  template: qa
  max_length: 70
  forget: {path: $case_/forget.jsonl, rows: 2}
  retain: {path: $case_/retain.jsonl, rows: 2, held_out: 0}
objective: {name: ga}
train: {steps: 1, batch_size: 2, accumulation: 1}
geffect: {every: 1, objectives: [ga]}
checkpoint: {export: false}
EOF
    log() { # log TEXT COUNT PATTERN: lines of the log that match
        check "$1" [ "$(grep -cE "$3" "$work/log")" = "$2" ]
    }
    for how in --check --overwrite; do
        with "" timeout 100 mpirun -np 2 "$program" $how "$work/input file.yaml" seed=43 >"$work/log" 2>&1
        check "$how: two processes end well" [ $? = 0 ]
        check "$how: two starts of each process" [ "$(starts)" = 4 ]
        log "$how: the log says what was done" 1 "^kernels    $raised: in place of $old, .*; the processor has $has\$"
        with OPENBLAS_CORETYPE=$old timeout 100 mpirun -np 2 "$program" $how "$work/input file.yaml" >"$work/log" 2>&1
        check "$how, kernels set: ends well" [ $? = 0 ]
        log "$how: the log says who set the kernels" 1 "^kernels    $old: set by OPENBLAS_CORETYPE; "
        log "$how: and what to unset, there and at the end" 2 "^warning: products reach .* OPENBLAS_CORETYPE=$old is set: unset it"
        with "OLD_WRONG=$raised" timeout 100 mpirun -np 2 "$program" $how "$work/input file.yaml" >"$work/log" 2>&1
        check "$how, wrong products: ends well" [ $? = 0 ]
        log "$how: the log says that kernels are wrong" 1 "^kernels    $old: .* $raised tried, but wrong"
        log "$how: and what to do" 2 "^warning: .* $raised kernels give wrong results here: use another"
    done
    log "the end of a run: of its whole time, and of the parts that compute" 1 \
        "^total [0-9.]+ s; .* Gflop nominal: [0-9.]+ Gflop/s, [0-9.]+ of the multiply-adds .*; the parts that compute, "
    if [ "$(env -u OMP_NUM_THREADS nproc)" -gt 1 ]; then # a start anew has the cores of the first, not the place of its thread
        with "OMP_NUM_THREADS=2 OMP_PROC_BIND=true" "$program" --check "$work/input file.yaml" >"$work/log" 2>&1
        log "--check, threads bound: the program started anew has all cores" 1 "^layout .*, 2 threads each"
        check "--check, threads bound: starts" [ "$(starts)" = 2 ]
    fi
    "$program" --check "$work/input file.yaml" >"$work/log"
    log "--check: what the machine can do" 1 "^speed      [0-9.e+]+ Gflop/s of products and [0-9.e+]+ GB/s of memory a process"
    log "--check: the time by that" 1 "^time       an update [0-9.e-]+ s, a measurement "
    check "--check: the digest is the last line" [ "$(tail -n 1 "$work/log" | cut -c 1-8)" = "digest: " ]
else
    echo "skipped: $case_ is not there"
fi
echo "$passed passed, $failed failed"
[ $failed = 0 ]
