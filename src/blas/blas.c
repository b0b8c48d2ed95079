/* The linear layer y = x W^T and its two backward products, by CBLAS or oneDNN; the threads of OpenMP and of BLAS.
 *      dx = dy W        dW = dy^T x                                                                                   */
#include "unlearn/blas_priv.h"
#include <assert.h>
#include <cblas.h>
#include <limits.h>
#include <math.h>
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>

/* ---- threads */

/* BLAS runs on the calling thread only: its own threads would compete for the cores with waiting threads of the OpenMP
 * team (measured on two cores: half the speed of one thread). gemm() divides a product among the team instead. */
void math_threads(int n)
{
#ifdef OPENBLAS_VERSION
    openblas_set_num_threads(1);
#endif
    omp_set_num_threads(n);
}

int math_threads_now(void) { return omp_get_max_threads(); }

bool team_free(void) { return omp_get_max_threads() > 1 && !omp_in_parallel(); }

#ifdef BLIS_TYPE_DEFS_H
char *bli_info_get_version_str(void); /* of the library itself: its cblas.h has it not */
#endif

const char *math_library(void)
{
#ifdef OPENBLAS_VERSION
    return openblas_get_config();
#elif defined BLIS_TYPE_DEFS_H
    static char name[40];
    snprintf(name, sizeof name, "BLIS %s", bli_info_get_version_str());
    return name;
#else
    return "CBLAS";
#endif
}

/* ---- products */

static void scale_rows(size_t m, size_t n, real beta, real *c, size_t ldc)
{
    for (size_t i = 0; i < m; i++)
        for (size_t j = 0; j < n; j++) c[i * ldc + j] = beta == 0 ? 0 : beta * c[i * ldc + j];
}

#ifdef REAL_float
#define GEMM cblas_sgemm
#define GEMV cblas_sgemv
#else
#define GEMM cblas_dgemm
#define GEMV cblas_dgemv
#endif

static void gemm_cblas(bool ta, bool tb, size_t m, size_t n, size_t k, real alpha, const real *a, size_t lda,
                       const real *b, size_t ldb, real beta, real *c, size_t ldc)
{
    if (m == 1 && tb && !ta) { /* one row of x: GEMM would first copy all weights and take four times as long */
        scale_rows(1, n, beta, c, ldc);
        GEMV(CblasRowMajor, CblasNoTrans, (int)n, (int)k, alpha, b, (int)ldb, a, 1, 1, c, 1);
    } else
        GEMM(CblasRowMajor, ta ? CblasTrans : CblasNoTrans, tb ? CblasTrans : CblasNoTrans, (int)m, (int)n, (int)k, alpha,
             a, (int)lda, b, (int)ldb, beta, c, (int)ldc);
}

static enum multiplier in_use = BY_BLAS;

enum status math_products(enum multiplier p)
{
    enum status st = p == BY_BFLOAT16 ? bfloat16_room() : OK;
    if (st == OK) in_use = p;
    return st;
}

enum multiplier math_products_now(void) { return in_use; }

static void gemm_part(bool ta, bool tb, size_t m, size_t n, size_t k, real alpha, const real *a, size_t lda,
                      struct matrix b, size_t ldb, real beta, struct matrix c, size_t ldc)
{
    assert(in_use == BY_BFLOAT16 || (!b.half && !c.half));
    if (in_use == BY_BFLOAT16)
        bfloat16_gemm(ta, tb, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
    else if (in_use != BY_ONEDNN || (m == 1 && tb && !ta) ||
             !onednn_gemm(ta, tb, m, n, k, alpha, a, lda, b.full, ldb, beta, c.full, ldc))
        gemm_cblas(ta, tb, m, n, k, alpha, a, lda, b.full, ldb, beta, c.full, ldc);
}

static void within(size_t most, bool ta, bool tb, size_t m, size_t n, size_t k, real alpha, const real *a, size_t lda,
                   struct matrix b, size_t ldb, real beta, struct matrix c, size_t ldc)
{
    assert(lda <= INT_MAX && ldb <= INT_MAX && ldc <= INT_MAX && most <= INT_MAX);
    for (size_t i = 0; i < m; i += most)
        for (size_t j = 0; j < n; j += most) {
            const size_t rows = smaller(most, m - i), columns = smaller(most, n - j);
            const struct matrix to = matrix_at(c, i * ldc + j);
            if (k == 0 && to.full) scale_rows(rows, columns, beta, to.full, ldc);
            for (size_t l = 0; l < k; l += most)
                gemm_part(ta, tb, rows, columns, smaller(most, k - l), alpha, a + (ta ? l * lda + i : i * lda + l), lda,
                          matrix_at(b, tb ? j * ldb + l : l * ldb + j), ldb, l == 0 ? beta : 1, to, ldc);
        }
}

void gemm_within(size_t most, bool ta, bool tb, size_t m, size_t n, size_t k, real alpha, const real *a, size_t lda,
                 const real *b, size_t ldb, real beta, real *c, size_t ldc)
{
    within(most, ta, tb, m, n, k, alpha, a, lda, reals(b), ldb, beta, reals(c), ldc);
}

/* How many rows of tiles to use for `threads` tiles of C [m][n], so that the threads together copy least of A and B. */
static int tile_rows(int threads, size_t m, size_t n)
{
    int best = 1;
    for (int rows = 1; rows <= threads; rows++) {
        int columns = threads / rows, best_columns = threads / best;
        if (threads % rows) continue;
        if ((double)m * columns + (double)n * rows < (double)m * best_columns + (double)n * best) best = rows;
    }
    return best;
}

/* Where part i of n begins, a multiple of the kernels' step. */
static size_t tile_edge(size_t n, int parts, int i)
{
    enum { STEP = 16 };
    return i == parts ? n : smaller(n, (n * (size_t)i / (size_t)parts + STEP - 1) / STEP * STEP);
}

/* Each thread computes one tile of C. Elements are summed as on one thread, but for those at a tile's edges, which some
 * kernels add in another order. */
static void multiply(bool ta, bool tb, size_t m, size_t n, size_t k, real alpha, const real *a, size_t lda,
                     struct matrix b, size_t ldb, real beta, struct matrix c, size_t ldc)
{
    const double worth = 32.0 * WORTH_A_TEAM; /* multiplications that pay for waking a team */
    int threads = omp_in_parallel() || (double)m * (double)n * (double)k < worth ? 1 : omp_get_max_threads();
    int rows = tile_rows(threads, m, n), columns = threads / rows;
    if (threads == 1) {
        within(INT_MAX, ta, tb, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
        return;
    }
#pragma omp parallel for schedule(static, 1) num_threads(threads)
    for (int tile = 0; tile < threads; tile++) {
        size_t i = tile_edge(m, rows, tile / columns), i_end = tile_edge(m, rows, tile / columns + 1);
        size_t j = tile_edge(n, columns, tile % columns), j_end = tile_edge(n, columns, tile % columns + 1);
        within(INT_MAX, ta, tb, i_end - i, j_end - j, k, alpha, a + (ta ? i : i * lda), lda,
               matrix_at(b, tb ? j * ldb : j), ldb, beta, matrix_at(c, i * ldc + j), ldc);
    }
}

void gemm(bool ta, bool tb, size_t m, size_t n, size_t k, real alpha, const real *a, size_t lda, const real *b,
          size_t ldb, real beta, real *c, size_t ldc)
{
    multiply(ta, tb, m, n, k, alpha, a, lda, reals(b), ldb, beta, reals(c), ldc);
}

void linear_forward(size_t n, size_t out, size_t in, const real *x, size_t ldx, struct matrix w, real *y, size_t ldy)
{
    multiply(false, true, n, out, in, 1, x, ldx, w, in, 0, reals(y), ldy);
}

void linear_add(size_t n, size_t out, size_t in, const real *x, size_t ldx, struct matrix w, real *y, size_t ldy)
{
    multiply(false, true, n, out, in, 1, x, ldx, w, in, 1, reals(y), ldy);
}

void linear_backward_input(size_t n, size_t out, size_t in, const real *dy, size_t ldy, struct matrix w, real beta,
                           real *dx, size_t ldx)
{
    multiply(false, false, n, in, out, 1, dy, ldy, w, in, beta, reals(dx), ldx);
}

void linear_backward_weight(size_t n, size_t out, size_t in, const real *dy, size_t ldy, const real *x, size_t ldx,
                            real beta, struct matrix dw)
{
    assert(dw.full || beta == 1);
    multiply(true, false, out, in, n, 1, dy, ldy, reals(x), ldx, beta, dw, in);
}

/* Seconds of the fastest of so many products of n x n x n, after one that warms up; infinity where there is no memory. */
static double product_seconds(size_t n, int times)
{
    const double ENOUGH = 2; /* seconds: on a slow machine fewer products measure as well */
    real *a = memory_new(n * n, sizeof *a), *b = memory_new(n * n, sizeof *b), *c = memory_new(n * n, sizeof *c);
    double best = INFINITY, spent = 0;
    if (a && b && c) {
        for (size_t i = 0; i < n * n; i++) a[i] = (real)0.5, b[i] = (real)0.25;
        for (int i = 0; i <= times && (i < 2 || spent < ENOUGH); i++) { /* the first warms up */
            double start = clock_seconds(), seconds;
            gemm(false, true, n, n, n, 1, a, n, b, n, 0, c, n);
            seconds = clock_seconds() - start;
            spent += seconds;
            if (i > 0 && seconds < best) best = seconds;
        }
    }
    free(a);
    free(b);
    free(c);
    return best;
}

double math_gemm_rate(size_t n)
{
    return 2.0 * (double)n * (double)n * (double)n / product_seconds(n, 5); /* 0 where nothing could be measured */
}

void math_gemm_once(size_t n) { product_seconds(n, 0); }
