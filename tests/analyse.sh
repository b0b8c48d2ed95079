#!/bin/sh
# What `make analyse` runs, each on the whole of src/:   tests/analyse.sh [gcc] [tidy] [cppcheck] [threads] [valgrind]
#   gcc       gcc -fanalyzer, both precisions
#   tidy      clang-tidy with the checks of .clang-tidy, clang's analyser among them
#   cppcheck  both precisions
#   threads   math, geffect and generation under ThreadSanitizer, with clang's OpenMP library, which tells it (by archer) how
#             threads wait for each other; gcc's does not. Teams are made for any size (WORTH_A_TEAM), so that small tests have
#             them. OpenBLAS and MPI are not instrumented: what happens inside them is not seen.
#   valgrind  tests/valgrind_test.sh: an update, a restart, an evaluation, generation
# A line each; any finding fails it. A finding that is none is answered where it stands: by code that says why, by a
# comment (NOLINT, cppcheck-suppress) with the reason, or, where a whole check is of no use here, in .clang-tidy or below.
cd "$(dirname "$0")/.." || exit 2
. tests/env.sh
SHARED=$(cd "${SHARED:-../shared}" 2>/dev/null && pwd || echo "${SHARED:-../shared}")
MAKE=${MAKE:-make}
export SHARED
logs=build/analyse
mkdir -p $logs
bad=0

# done_ NAME STATUS WHAT: a line; the findings, where there are some, are the lines of its log
done_() {
    if [ "$2" = 0 ]; then
        echo "analyse: $1: $3: nothing found ($(($(date +%s) - begin)) s)"
    else
        grep -E "$4" $logs/"$1".log | sort -u | head -n 100
        echo "analyse: $1: $3: FINDINGS; all of $logs/$1.log says more"
        bad=$((bad + 1))
    fi
}

# GCC 12 takes vectors (math/lanes.h) for uninitialised after `= {0}`; clang's analyser and valgrind look for the same.
run_gcc() {
    status=0
    : >$logs/gcc.log
    for p in double float; do
        OMPI_CC=gcc MPICH_CC=gcc $MAKE -s -k PRECISION=$p B=$logs/gcc-$p CPPFLAGS='-D_GNU_SOURCE= -include tests/analyse.h' \
            CFLAGS='-O1 -Werror -fanalyzer -Wno-unused-value -Wno-analyzer-use-of-uninitialized-value' \
            $logs/gcc-$p/src/main.o $logs/gcc-$p/rooms.a >>$logs/gcc.log 2>&1 || status=1
    done
    done_ gcc $status "gcc -fanalyzer of src, double and float" '(error|\*\*\*)'
}

run_tidy() {
    OMPI_CC=clang MPICH_CC=clang $MAKE -s -k PRECISION=double B=$logs/tidy tidied >$logs/tidy.log 2>&1
    done_ tidy $? "clang-tidy of src" '(error|\*\*\*)'
}

run_cppcheck() {
    status=0
    : >$logs/cppcheck.log
    for p in double float; do
        # readdir() is never called inside a team of threads
        cppcheck -j"$(nproc)" --quiet --std=c11 --language=c --library=posix,gnu,openmp --inline-suppr --error-exitcode=1 \
            --enable=warning,performance,portability --suppress=readdirCalled --suppress=missingIncludeSystem \
            --template='{file}:{line}: {severity}: {message} [{id}]' \
            -Iinclude -DREAL=$p -DREAL_$p -D__x86_64__ -D__GNUC__=12 src >>$logs/cppcheck.log 2>&1 || status=1
    done
    done_ cppcheck $status "cppcheck of src, double and float" '.'
}

# thread_sanitized NAME: its reports and status, in the log
thread_sanitized() {
    OMP_NUM_THREADS=$threads OMPI_MCA_ess_singleton_isolated=1 OMP_TOOL_LIBRARIES=$archer ARCHER_OPTIONS=verbose=1 \
        TSAN_OPTIONS='ignore_noninstrumented_modules=1 exitcode=66 history_size=5' \
        timeout 600 $logs/threads/tests/"$1" >$logs/threads.one 2>&1
    status_=$?
    cat $logs/threads.one >>$logs/threads.log
    return $status_
}
run_threads() {
    names=$(for f in tests/test_math_*.c tests/test_geffect_*.c tests/test_eval_generate.c; do basename "$f" .c; done)
    archer=$(find /usr/lib /usr/lib64 -name libarcher.so 2>/dev/null | tail -n 1)
    status=0
    # a race that must be found: else nothing is looked at
    mkdir -p $logs/threads/tests
    printf '%s\n' 'int main(void) { int n = 0;' '#pragma omp parallel for' 'for (int i = 0; i < 1000; i++) n += i;' \
        'return n == 0; }' >$logs/threads/race.c
    {
        clang -g -O1 -fopenmp -fsanitize=thread -o $logs/threads/tests/race $logs/threads/race.c &&
            OMPI_CC=clang MPICH_CC=clang $MAKE -s PRECISION=double B=$logs/threads CPPFLAGS=-DWORTH_A_TEAM=1ul \
                CFLAGS='-O1 -g -fsanitize=thread -Wno-pass-failed' $(for n in $names; do echo $logs/threads/tests/"$n"; done)
    } >$logs/threads.log 2>&1 || status=1
    threads=4
    if [ $status = 0 ]; then
        thread_sanitized race
        test $? = 66 || { echo 'error: the race that is there on purpose is not found' >>$logs/threads.log; status=1; }
        grep -q 'Archer detected' $logs/threads.one || { echo 'error: archer is not at work' >>$logs/threads.log; status=1; }
        sed -i 's/^/on purpose: /' $logs/threads.log
        for n in $names; do
            for threads in 2 4; do
                thread_sanitized "$n" || { echo "error: $n with $threads threads: exit status $?" >>$logs/threads.log; status=1; }
            done
        done
    fi
    done_ threads $status "ThreadSanitizer, $(echo $names | wc -w) tests with 2 and 4 threads" \
        '^(error|SUMMARY|\[  FAILED|.*undefined|.*\*\*\*)|^src.*error:'
}

run_valgrind() {
    ALL=1 timeout 1800 sh tests/valgrind_test.sh >$logs/valgrind.log 2>&1
    status=$?
    if [ $status = 77 ]; then cat $logs/valgrind.log; else done_ valgrind $status "valgrind of whole runs" '.'; fi
}

for tool in ${*:-gcc tidy cppcheck threads valgrind}; do
    begin=$(date +%s)
    case $tool in
    gcc) needs="gcc" ;;
    tidy) needs="clang-tidy" ;;
    cppcheck) needs="cppcheck" ;;
    threads) needs="clang" ;;
    valgrind) needs="valgrind" ;;
    *) echo "analyse: there is no $tool"; exit 2 ;;
    esac
    command -v $needs >/dev/null || { echo "analyse: $tool: $needs is not installed: FAILED"; bad=$((bad + 1)); continue; }
    run_$tool
done
test $bad = 0
