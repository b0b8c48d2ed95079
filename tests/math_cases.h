/* What the tests of math share: random and noisy arrays, central differences of a plain twin written in double. */
#ifndef UNLEARN_TESTS_MATH_CASES_H
#define UNLEARN_TESTS_MATH_CASES_H
#include "near.h"
#include "unlearn/math.h"
#include <omp.h>

/* Relative to the largest value of an array. Reals of 24 bits: a few roundings, each 6e-8, in sums of up to some hundred
 * terms. Differences of a twin in double: h = 1e-5 leaves h^2 = 1e-10 and 1e-16/h = 1e-11; reals add their own. */
#ifdef REAL_float
static const double TOL = 3e-6, TOL_DIFFERENCE = 3e-6;
#else
static const double TOL = 1e-13, TOL_DIFFERENCE = 2e-9;
#endif

/* Old content of outputs: it must not leak into results. */
static inline real *noise(size_t n)
{
    real *x = malloc((n + 1) * sizeof *x);
    for (size_t i = 0; i < n; i++) x[i] = (real)NAN;
    return x;
}

static inline real *random_reals(uint32_t seed, size_t n)
{
    real *x = malloc((n + 1) * sizeof *x);
    for (size_t i = 0; i < n; i++) x[i] = (real)random_normal(seed, STREAM_TEST, i);
    return x;
}

static inline double *doubles(size_t n, const real *x)
{
    double *y = malloc((n + 1) * sizeof *y);
    for (size_t i = 0; i < n; i++) y[i] = x[i];
    return y;
}

/* Is x what the twin says? Frees neither. */
static inline double error_of(size_t n, const real *x, const double *want)
{
    double *got = doubles(n, x), e = relative_error(n, got, want);
    free(got);
    return e;
}

static inline double weighted_sum(size_t n, const double *x, const real *weight)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++) sum += x[i] * weight[i];
    return sum;
}

/* <a, b> in double, and whether it is the same as another such product: a tangent is adjoint to the backward */
static inline double product_of(size_t n, const real *a, const real *b)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++) sum += (double)a[i] * b[i];
    return sum;
}

static inline void assert_adjoint(size_t n_out, const real *dout, const real *tout, size_t n_in, const real *din,
                                  const real *tin)
{
    const double forward = product_of(n_out, dout, tout), backward = product_of(n_in, din, tin);
    const double size = sqrt(product_of(n_out, dout, dout) * product_of(n_out, tout, tout));
    assert_true(fabs(forward - backward) <= 10 * TOL * size);
}

/* gradient[i] = df/dx_i by central differences; x is put back */
static inline void differences(double (*f)(const double *x, const void *more), const void *more, size_t n, double *x,
                               double *gradient)
{
    const double h = 1e-5;
    for (size_t i = 0; i < n; i++) {
        double old = x[i], up, down;
        x[i] = old + h;
        up = f(x, more);
        x[i] = old - h;
        down = f(x, more);
        x[i] = old;
        gradient[i] = (up - down) / (2 * h);
    }
}

/* out[i] = d/dh of df/dx_i along v, by mixed differences: h = 3e-4 leaves some 1e-8 of f's fourth derivatives and 1e-16/h^2;
 * reals add their own roundings. x is put back. */
#ifdef REAL_float
static const double TOL_MIXED = 1e-5;
#else
static const double TOL_MIXED = 1e-6;
#endif
static inline void mixed_differences(double (*f)(const double *x, const void *more), const void *more, size_t n,
                                     double *x, const real *v, double *out)
{
    const double h = 3e-4;
    double *old = malloc((n + 1) * sizeof *old);
    memcpy(old, x, n * sizeof *old);
    memset(out, 0, n * sizeof *out);
    for (int side = -1; side <= 1; side += 2) {
        for (size_t i = 0; i < n; i++) x[i] = old[i] + side * h * v[i];
        for (size_t i = 0; i < n; i++) {
            const double here = x[i];
            x[i] = here + h, out[i] += side * f(x, more) / (4 * h * h);
            x[i] = here - h, out[i] -= side * f(x, more) / (4 * h * h);
            x[i] = here;
        }
    }
    memcpy(x, old, n * sizeof *old);
    free(old);
}

/* y = x + h v */
static inline real *shifted(size_t n, const real *x, double h, const real *v)
{
    real *y = malloc((n + 1) * sizeof *y);
    for (size_t i = 0; i < n; i++) y[i] = (real)(x[i] + h * v[i]);
    return y;
}

/* <a, b> in double */
static inline double inner(size_t n, const real *a, const real *b)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++) sum += (double)a[i] * b[i];
    return sum;
}
#endif
