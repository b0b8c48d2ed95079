#!/bin/sh
# `make bench`: one JSON line each for a training step, the effect pass, the gradient, the token effects and a Hessian-vector product of the forget rows, for 1 rank x 1 thread, 1 x 2 and
# 2 x 1; then how fast a model writes. WHAT="step effects" (all), SHAPES="M1 M2 M3", WRITERS="stories260K M1", REPETITIONS=5 (2); run nothing else meanwhile.
cd "$(dirname "$0")/.." || exit 2
. tests/env.sh
unset OMPI_MCA_btl_vader_single_copy_mechanism # the library's own choice, as users have it
bench=build/float/tests/bench
for shape in ${SHAPES-M1 M2 M3}; do
    for layout in "1 1" "1 2" "2 1"; do
        set -- $layout
        OMP_NUM_THREADS=$2 OPENBLAS_NUM_THREADS=$2 timeout 1800 mpirun -np "$1" "$bench" "$shape" "$2" "${REPETITIONS:-5}" || exit 1
    done
done
for shape in ${WRITERS-stories260K M1}; do
    for threads in 1 2; do
        OMP_NUM_THREADS=$threads timeout 1800 build/float/tests/bench_generate "$shape" "$threads" "${REPETITIONS:-2}" || exit 1
    done
done
